"""The installation's own secrets, and what is sealed with them."""

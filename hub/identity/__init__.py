"""From evidence to principal."""

"""Real servers that tests talk to: on the official SDK, and one that misbehaves by script."""

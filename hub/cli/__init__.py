"""The command line: a client of the administration, and the way to start the hub."""

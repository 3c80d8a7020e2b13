"""The configuration file: its shape, its source text with positions, its problems."""

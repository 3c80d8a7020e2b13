"""The record: written once per call, chained, signed, verifiable by others, and read back."""

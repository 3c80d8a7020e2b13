"""Guardrails: looking at what goes in and out, and what is done with what is found."""

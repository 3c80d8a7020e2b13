"""Upstreams and what they offer: connecting, listing, naming, composing, searching."""

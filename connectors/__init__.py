"""Reaching upstreams of every kind through one small protocol.

A library: it knows neither the hub nor the sibling libraries.
"""

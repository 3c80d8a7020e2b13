"""The HTTP server's side of connections: limits, and the door of the fast lane."""

"""What answers a routed call."""

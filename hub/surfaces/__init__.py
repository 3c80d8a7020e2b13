"""The wires that the hub serves: each turns its requests into calls and outcomes into its answers."""

"""What Portico talks about: frozen, slotted value types without I/O."""

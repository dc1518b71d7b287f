"""Live metrics and parity."""

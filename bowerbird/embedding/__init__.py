"""From 64-bit keys to rows."""

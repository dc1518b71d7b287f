"""Command line: one group per noun."""

"""Lowering what is left per candidate to a pair program: steps over matrices of one row per candidate."""

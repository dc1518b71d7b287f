"""Lowering what is computed once per request to a tensor program: steps over tensors of fixed shapes."""

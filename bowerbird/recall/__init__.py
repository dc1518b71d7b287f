"""Recall channels."""

"""Recall, filter, rank, re-rank."""

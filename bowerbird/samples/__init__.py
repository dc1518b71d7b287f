"""Replay, label join and sample datasets."""

"""Embedding tables against hash maps, and large ones in a server."""

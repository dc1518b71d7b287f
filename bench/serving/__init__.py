"""Whole requests against other servers, and a server under load."""

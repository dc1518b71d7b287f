"""Immutable published versions: format, gates, registry."""

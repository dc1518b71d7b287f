"""The Python client of a Bowerbird server."""

from bowerbird.client.client import Client

__all__ = ["Client"]

"""The HTTP server: bare ASGI and msgspec, one router by noun."""

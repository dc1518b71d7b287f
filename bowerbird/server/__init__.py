"""REST routers, services and authentication."""

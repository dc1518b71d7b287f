"""Python client."""

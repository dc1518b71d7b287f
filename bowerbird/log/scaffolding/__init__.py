"""A first project from somebody's log."""

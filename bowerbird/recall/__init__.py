"""Recall: channels that propose items for a user."""

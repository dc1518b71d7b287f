"""Lifting: for each kind of operator, why its rows are kept apart and what it is for one row."""

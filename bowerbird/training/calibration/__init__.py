"""Calibrations of a model's answers, chosen on validation."""

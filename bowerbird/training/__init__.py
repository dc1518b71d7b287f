"""Trainer, metrics, calibration."""

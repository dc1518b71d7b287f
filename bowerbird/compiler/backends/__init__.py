"""What runs a staged program, each behind the one contract of ``contract.py``."""

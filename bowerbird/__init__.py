"""Bowerbird: from raw event logs to a ranking service that keeps learning."""

"""The scoring engine: bundle, live feature state, slates."""

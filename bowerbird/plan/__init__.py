"""Declaration to feature plan: compile, fit, fingerprint, encode, execute."""

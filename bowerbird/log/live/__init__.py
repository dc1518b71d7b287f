"""The write-ahead log of live records."""

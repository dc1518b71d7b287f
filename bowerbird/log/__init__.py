"""Event log: ingest, dead letters, order, write-ahead log."""

"""Raw files of a source, and their ingest."""

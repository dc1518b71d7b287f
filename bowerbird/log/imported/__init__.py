"""The imported log: parts of records in order."""

"""From samples in files to batches in memory."""

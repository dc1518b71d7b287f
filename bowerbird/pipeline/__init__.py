"""From a request to a slate: recall, filter, rank, diversify, explain."""

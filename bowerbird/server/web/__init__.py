"""HTTP: connections, requests, routes, keys, problems."""

"""Load tests of a server: real requests, open loop at stated rates, latencies from the time that each was meant."""

"""Live state: reads, recovery, partitions, crashes, events over HTTP."""

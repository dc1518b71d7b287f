"""From a run to a gated bundle."""

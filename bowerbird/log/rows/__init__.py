"""From raw rows to records, or to reasons against them."""

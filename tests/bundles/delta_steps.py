"""A process that publishes deltas for ever, until it is killed: python -m tests.bundles.delta_steps BUNDLE."""

from __future__ import annotations

import sys

import numpy as np

from bowerbird.bundles.bundle import read_bundle
from bowerbird.bundles.deltas import publish_delta
from bowerbird.embedding.served_table import TableChange
from tests.training.synthetic import keys

ITEMS = keys(np.arange(40) + 10_000)


def change(number: int) -> dict[str, TableChange]:
    """Return the change that makes every number of every item's row ``number``."""
    return {"item": TableChange(ITEMS, np.full((len(ITEMS), 16), number, np.float32))}


if __name__ == "__main__":
    bundle = read_bundle(sys.argv[1])
    while True:
        print(publish_delta(bundle, change(1)).sequence, flush=True)

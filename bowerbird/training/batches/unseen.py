"""How many of the validation samples' keys have no row of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bowerbird.embedding.key_index import MISSING_ROW, UNSEEN_ROW
from bowerbird.embedding.rows import Rows
from bowerbird.training.batches.encoded import EncodedSamples


def unseen_shares(samples: EncodedSamples) -> dict[str, float]:
    """Return, by category (of sequences too), the share of keys that share the row of unseen ones.

    Missing keys are not counted; a feature without any key is not in the answer.
    """
    columns: dict[str, Rows] = dict(samples.categories)
    for flat in samples.sequences.values():
        columns |= {name: values[:-1] for name, values in flat.categories.columns().items()}
    shares: dict[str, float] = {}
    for name, rows in columns.items():
        present = int(np.count_nonzero(rows != MISSING_ROW))
        if present:
            shares[name] = int(np.count_nonzero(rows == UNSEEN_ROW)) / present
    return shares


def unseen_warnings(shares: Mapping[str, float]) -> list[str]:
    """Return a sentence for each feature of which training has seen no key at all."""
    return [
        f"Every key of {name!r} in validation is one that training has not seen often enough: the feature says "
        "nothing. Look whether it is an identifier that changes daily, or lower the tables' minimum_count."
        for name, share in shares.items()
        if share == 1
    ]

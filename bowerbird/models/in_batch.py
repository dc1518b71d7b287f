"""The softmax over a batch's own items, corrected for how often each is there (Yi et al., 2019)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def in_batch_softmax(scores: Tensor, item: Tensor, probability: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean cross entropy of each row's own item against the batch's distinct other items.

    ``scores`` are float32 [rows, rows]: of the user of a row and the item of a column. ``item`` are the items' keys,
    int64 [rows]. ``probability`` [rows] is that of a row's item to be in a random batch; its logarithm is subtracted
    from the scores, so that the sum over the batch's items estimates the sum over all items. ``weight`` [rows] is 0 for
    rows that are no positives. An item that is there twice counts once, and never against itself.
    """
    corrected = scores - probability.log()
    rows = torch.arange(len(item))
    own = rows.unsqueeze(1) == rows
    _, place = torch.unique(item, return_inverse=True)
    first = torch.full_like(place, len(item)).scatter_reduce(0, place, rows, "amin")[place] == rows
    allowed = own | (first & (item.unsqueeze(1) != item))
    logits = corrected.masked_fill(~allowed, float("-inf"))
    losses = functional.cross_entropy(logits, rows, reduction="none")
    return (losses * weight).sum() / weight.sum().clamp(min=1e-12)

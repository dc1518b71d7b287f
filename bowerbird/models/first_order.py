"""First-order terms with a weight per key, kept in the last columns of the key's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from bowerbird.embedding.inputs import Inputs
from bowerbird.errors import InputError
from bowerbird.models.flat import FlatInputs
from bowerbird.models.layers import masked_mean
from bowerbird.models.ranker import RateFitted, log_odds
from bowerbird.models.sequences import mean_histories
from bowerbird.models.split_rows import all_categories, narrow_inputs
from bowerbird.models.task import Task
from bowerbird.models.trained_linear import Linear


class FirstOrder(RateFitted):
    """The linear part of a model, [rows, tasks]: a weight per key and task, added up.

    A model is given embedded rows, not keys; so a key's weights are the last ``tasks`` columns of its row, one per
    task, which the rest of the model does not read (``without_weights``). A sequence counts as the mean of its events'
    weights. Numbers, ages and vectors go through a linear map. With ``bias`` there is one per task.
    """

    def __init__(self, inputs: Inputs, tasks: tuple[Task, ...], bias: bool) -> None:
        super().__init__()
        self.tasks = tuple(task.name for task in tasks)
        check_widths(inputs, len(tasks))
        self.categories = tuple(item.name for item in inputs.categories)
        self.sequences = tuple(
            (sequence.mask, tuple(item.name for item in sequence.categories)) for sequence in inputs.sequences
        )
        sequences = tuple(replace(sequence, categories=()) for sequence in inputs.sequences)
        rest = replace(inputs, categories=(), sequences=sequences)
        flat = FlatInputs(rest, mean_histories(rest), len(tasks))
        self.rest = nn.ModuleList()
        if flat.width:
            linear = Linear(flat.width, len(tasks), bias=False)
            nn.init.normal_(linear.weight, std=0.01)
            self.rest.extend([flat, linear])
        self.bias = nn.Parameter(torch.zeros(len(tasks))) if bias else None

    def fit_rates(self, rates: Mapping[str, float]) -> None:
        """Set the biases to the tasks' log odds."""
        if self.bias is not None:
            with torch.no_grad():
                self.bias.copy_(torch.tensor([log_odds(rates[name]) for name in self.tasks]))

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return [rows, tasks]."""
        last = slice(-len(self.tasks), None)
        terms = [features[name][:, last] for name in self.categories]
        for mask, fields in self.sequences:
            terms += [masked_mean(features[name][..., last], features[mask]) for name in fields]
        if self.rest:
            flat, linear = self.rest
            terms.append(linear(flat(features)))
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total if self.bias is None else total + self.bias


def without_weights(inputs: Inputs, tasks: tuple[Task, ...]) -> Inputs:
    """Return the inputs less the columns that ``FirstOrder`` reads; raises InputError where none would be left."""
    check_widths(inputs, len(tasks) + 1)
    return narrow_inputs(inputs, lambda item: item.dimension - len(tasks))


def check_widths(inputs: Inputs, least: int) -> None:
    """Raise InputError where a row has fewer than ``least`` columns."""
    for item in all_categories(inputs):
        if item.dimension < least:
            raise InputError(
                f"Rows of {item.vocabulary!r} have {item.dimension} columns; {least} are needed.",
                "Raise dimension, or embedding.dimensions of that vocabulary.",
            )

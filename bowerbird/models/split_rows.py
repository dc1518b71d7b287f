"""Table rows that serve two purposes: their first columns for one, their last columns for another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from bowerbird.embedding.inputs import CategoryInput, Inputs


def narrow_inputs(inputs: Inputs, width_of: Callable[[CategoryInput], int]) -> Inputs:
    """Return the inputs with each category, in sequences too, cut to its first ``width_of`` columns."""

    def cut(items: tuple[CategoryInput, ...]) -> tuple[CategoryInput, ...]:
        return tuple(replace(item, dimension=width_of(item)) for item in items)

    sequences = tuple(replace(item, categories=cut(item.categories)) for item in inputs.sequences)
    return replace(inputs, categories=cut(inputs.categories), sequences=sequences)


def narrow_features(features: dict[str, Tensor], inputs: Inputs) -> dict[str, Tensor]:
    """Return the tensors with each category cut to the width that ``narrow_inputs`` gave it."""
    narrow = dict(features)
    for item in all_categories(inputs):
        if features[item.name].shape[-1] > item.dimension:
            narrow[item.name] = features[item.name][..., : item.dimension]
    return narrow


def all_categories(inputs: Inputs) -> list[CategoryInput]:
    """Return the categories of rows and of sequences' events."""
    return [*inputs.categories, *(item for sequence in inputs.sequences for item in sequence.categories)]

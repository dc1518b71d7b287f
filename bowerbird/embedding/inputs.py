"""What a dense module is given: the tensors that a plan's features become, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bowerbird.plan.spec import Feature, Plan, Stage


@dataclass(frozen=True)
class CategoryInput:
    """An embedded category: float32 [rows, dimension] (in a sequence: [rows, length, dimension])."""

    name: str
    vocabulary: str
    dimension: int
    stage: Stage


@dataclass(frozen=True)
class NumberInput:
    """A number: float32 [rows], NaN where unknown."""

    name: str
    stage: Stage


@dataclass(frozen=True)
class VectorInput:
    """A vector made elsewhere: float32 [rows, width], zeros where unknown."""

    name: str
    width: int
    stage: Stage


@dataclass(frozen=True)
class SequenceInput:
    """A padded sequence, newest event first.

    Its tensors are ``<name>.<field>`` for each field, ``<name>.age`` (float32 seconds [rows, length]) and
    ``<name>.mask`` (bool [rows, length], false on padding). ``categories`` and ``numbers`` carry the full
    tensor names.
    """

    name: str
    stage: Stage
    length: int
    categories: tuple[CategoryInput, ...]
    numbers: tuple[NumberInput, ...]

    @property
    def tensors(self) -> list[str]:
        """The names of all its tensors."""
        fields = [item.name for item in self.categories] + [item.name for item in self.numbers]
        return [*fields, self.age, self.mask]

    @property
    def age(self) -> str:
        """The name of the ages' tensor."""
        return f"{self.name}.age"

    @property
    def mask(self) -> str:
        """The name of the mask's tensor."""
        return f"{self.name}.mask"


@dataclass(frozen=True)
class Inputs:
    """The tensors of a dense module, in plan order."""

    categories: tuple[CategoryInput, ...]
    numbers: tuple[NumberInput, ...]
    sequences: tuple[SequenceInput, ...]
    vectors: tuple[VectorInput, ...] = ()

    @property
    def stages(self) -> dict[str, Stage]:
        """The stage of each tensor, by its name."""
        stages: dict[str, Stage] = {item.name: item.stage for item in self.categories}
        stages |= {item.name: item.stage for item in self.numbers}
        stages |= {item.name: item.stage for item in self.vectors}
        for sequence in self.sequences:
            stages |= {name: sequence.stage for name in sequence.tensors}
        return stages

    def of_stages(self, *stages: Stage) -> Inputs:
        """Return the inputs of some stages alone."""
        return Inputs(
            categories=tuple(item for item in self.categories if item.stage in stages),
            numbers=tuple(item for item in self.numbers if item.stage in stages),
            sequences=tuple(item for item in self.sequences if item.stage in stages),
            vectors=tuple(item for item in self.vectors if item.stage in stages),
        )

    def request_rows(self, rows: int) -> dict[str, Tensor]:
        """Return random tensors of one request's candidates: everything of the request has one row."""
        features = self.example(rows, torch.Generator().manual_seed(rows))
        return {name: value[:1] if self.stages[name] == "request" else value for name, value in features.items()}

    def example(self, rows: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return random tensors of the right shapes, with some numbers unknown and some sequences empty."""
        features: dict[str, Tensor] = {}
        for category in self.categories:
            features[category.name] = torch.randn(rows, category.dimension, generator=generator)
        for number in self.numbers:
            features[number.name] = _example_numbers((rows,), generator)
        for sequence in self.sequences:
            features |= _example_sequence(sequence, rows, generator)
        for vector in self.vectors:
            features[vector.name] = torch.randn(rows, vector.width, generator=generator)
        return features


def _example_numbers(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    values = torch.randn(shape, generator=generator)
    unknown = torch.rand(shape, generator=generator) < 0.1
    return values.masked_fill(unknown, float("nan"))


def _example_sequence(sequence: SequenceInput, rows: int, generator: torch.Generator | None) -> dict[str, Tensor]:
    shape = (rows, sequence.length)
    features = {}
    for category in sequence.categories:
        features[category.name] = torch.randn(*shape, category.dimension, generator=generator)
    for number in sequence.numbers:
        features[number.name] = _example_numbers(shape, generator)
    lengths = torch.randint(0, sequence.length + 1, (rows, 1), generator=generator)
    features[sequence.age] = torch.rand(shape, generator=generator) * 1e6
    features[sequence.mask] = torch.arange(sequence.length) < lengths
    return features


def vocabulary_of(feature: Feature) -> str:
    """Return the vocabulary of a category; without a declared one it is the feature's own."""
    return feature.vocabulary or feature.name


def field_vocabulary(feature: Feature, field: str) -> str:
    """Return the vocabulary of a sequence's category field; without a declared one it is the field's own."""
    for candidate in feature.fields:
        if candidate.name == field:
            return candidate.vocabulary or f"{feature.name}.{field}"
    raise KeyError(field)


def vocabularies(plan: Plan) -> list[str]:
    """Return every vocabulary of a plan, in order of first use."""
    names: dict[str, None] = {}
    for feature in plan.features:
        if feature.kind == "category":
            names[vocabulary_of(feature)] = None
        for field in feature.fields:
            if field.is_category:
                names[field_vocabulary(feature, field.name)] = None
    return list(names)


def inputs_of(plan: Plan, dimension_of: Callable[[str], int]) -> Inputs:
    """Return the inputs that a plan's features become, given each vocabulary's dimension."""
    return Inputs(
        categories=tuple(
            CategoryInput(feature.name, vocabulary_of(feature), dimension_of(vocabulary_of(feature)), feature.stage)
            for feature in plan.of_kind("category")
        ),
        numbers=tuple(NumberInput(feature.name, feature.stage) for feature in plan.of_kind("number")),
        sequences=tuple(_sequence_input(feature, dimension_of) for feature in plan.of_kind("sequence")),
        vectors=tuple(VectorInput(feature.name, feature.width, feature.stage) for feature in plan.of_kind("vector")),
    )


def _sequence_input(feature: Feature, dimension_of: Callable[[str], int]) -> SequenceInput:
    categories = []
    numbers = []
    for field in feature.fields:
        name = f"{feature.name}.{field.name}"
        if field.is_category:
            vocabulary = field_vocabulary(feature, field.name)
            categories.append(CategoryInput(name, vocabulary, dimension_of(vocabulary), feature.stage))
        else:
            numbers.append(NumberInput(name, feature.stage))
    return SequenceInput(feature.name, feature.stage, feature.length, tuple(categories), tuple(numbers))

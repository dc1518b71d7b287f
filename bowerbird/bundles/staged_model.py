"""A bundle's tables and staged program: the request's part once, the item's when it changes, the rest per candidate."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bowerbird.bundles.item_store import ItemStore
from bowerbird.bundles.packed_columns import Columns, PackedColumns, Positions
from bowerbird.bundles.scorer import Logits
from bowerbird.compiler.backends.contract import Backend, Kept, Made, Prepared, as_array
from bowerbird.compiler.backends.interpreter import Interpreter
from bowerbird.compiler.precision import Precision
from bowerbird.compiler.staged import StagedProgram
from bowerbird.embedding.feature_reader import Array, FeatureReader
from bowerbird.embedding.input_columns import InputColumns
from bowerbird.embedding.item_reader import ItemReader
from bowerbird.embedding.rows import RowBlock, Rows, block_of_columns, column_vocabularies, columns_of
from bowerbird.embedding.served_collection import ServedCollection
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.columns import Chosen

_MANY_ROWS = 256
"""Fewer rows of many requests, golden ones say, are answered one by one: by the very program that serves requests."""


@dataclass(frozen=True)
class Way:
    """How a program is run: a backend and the precision of its products."""

    backend: Backend
    precision: Precision
    shifts: Mapping[str, float] = field(default_factory=dict)
    """What is added to the logits of tasks, so that their mean prediction is that of eager PyTorch."""
    cache: Path | None = None
    """Where the backend keeps what takes it long to prepare."""

    @property
    def name(self) -> str:
        """The way in reports, gates and settings."""
        return f"{self.backend.name}.{self.precision}"


class StagedModel:
    """Answers blocks of one request by stages, and blocks of many (samples) with every stage for every row."""

    def __init__(self, collection: FeatureReader, program: StagedProgram, way: Way | None = None) -> None:
        self.program = program
        self.way = way or Way(Interpreter(), "fp32")
        self._prepared = self.way.backend.prepare(self.program, self.way.precision, self.way.cache)
        self._request = InputColumns(collection.inputs.of_stages("request"))
        self._item = InputColumns(collection.inputs.of_stages("item"))
        self._pair = collection.inputs.of_stages("pair")
        own = {item.name for item in self._pair.numbers}
        stacks = {name: names for name, names in self._prepared.stacks.items() if own.issuperset(names)}
        alone = own.difference(*stacks.values())
        self._pair_alone = replace(self._pair, numbers=tuple(item for item in self._pair.numbers if item.name in alone))
        self._stacks = {name: Chosen(names) for name, names in stacks.items()}
        self._set_tables(collection)
        self.items = ItemStore()

    def with_way(self, way: Way) -> StagedModel:
        """Return the same model, run another way."""
        return StagedModel(self.collection, self.program, way)

    def with_tables(self, collection: FeatureReader) -> StagedModel:
        """Return the same model with other tables, which keep items together: a changed row has another number."""
        other = copy.copy(self)
        other._set_tables(collection)
        other.make_changed_items(self.collection)
        return other

    def make_changed_items(self, before: FeatureReader) -> None:
        """Make what kept items become whose rows are others than ``before``, so that no request has to."""
        if not isinstance(before, ServedCollection) or not isinstance(self.collection, ServedCollection):
            return
        moved = self.collection.moved_rows(before)
        vocabularies = [name if name in moved else None for name in column_vocabularies(self._item.inputs)]
        if any(vocabularies):
            with torch.inference_mode():
                self.items.make_changed(lambda columns: _moved(columns, vocabularies, moved), self._made_items)

    def _set_tables(self, collection: FeatureReader) -> None:
        self.collection = collection
        self._read_request = collection.reader_of(self._request.inputs)
        self._read_items: ItemReader | None = None
        if isinstance(collection, ServedCollection) and self._prepared.takes_arrays and self._item.plain:
            self._read_items = collection.item_reader(self._item.inputs, self._prepared.item_stacks)

    @property
    def prepared(self) -> Prepared:
        """The program's parts, ready to run."""
        return self._prepared

    def logits(self, block: FeatureBlock) -> dict[str, Logits]:
        """Return logits by task, float32 [rows]; safe to call from several threads."""
        with torch.inference_mode():
            rows = self.collection.encode(block)
            shared = self._request.lengths(rows) <= {1}
            answers = self._of_request(rows) if shared else self._of_rows(rows)
        shifts = self.way.shifts
        return {
            task: _logits(value, rows.count) + np.float32(shifts.get(task, 0.0)) for task, value in answers.items()
        }

    def request_features(self, rows: RowBlock) -> Mapping[str, Made]:
        """Return the features of the request alone, [1, *shape]."""
        if self._prepared.takes_arrays:
            return self._read_request(rows)
        return self.collection.lookup_once(rows, self._request.inputs)

    def request_values(self, request: Mapping[str, Made]) -> Mapping[str, Made]:
        """Return what the request stage leaves, given the request's features."""
        return self._prepared.request(request, 1)

    def item_values(self, rows: RowBlock) -> Mapping[str, Made | Kept]:
        """Return what the item stage leaves for each candidate, where it is kept, or computed."""
        if not self._item or not self.program.item.outputs:
            return {}
        count = rows.count
        if self._item.lengths(rows) != {count}:
            return self._made_items(PackedColumns.of([each[:1] for each in columns_of(rows, self._item.inputs)], 1))
        if self._item.plain:
            packed = PackedColumns.side_by_side(self._item.matrices(rows))
        else:
            packed = PackedColumns.of(columns_of(rows, self._item.inputs), count)
        return self.items.get(packed, self._made_items)

    def pair_features(self, rows: RowBlock) -> dict[str, Array]:
        """Return the features of request and item together, numbers side by side where the program takes them so."""
        features = self.collection.arrays_once(rows, self._pair_alone)
        for name, chosen in self._stacks.items():
            features[name] = np.ascontiguousarray(chosen.matrix(rows.numbers).T)
        return features

    def _of_request(self, rows: RowBlock) -> Mapping[str, Made]:
        request = self.request_values(self.request_features(rows))
        return self._prepared.of_kept({**request, **self.item_values(rows), **self.pair_features(rows)}, rows.count)

    def _made_items(self, items: PackedColumns) -> dict[str, Made]:
        """Return what the item stage makes of items with some features, [items, *shape] by name."""
        count, prepared = len(items), self._prepared
        places = max(prepared.least_items, count + -count % prepared.items_together)
        if places > count:
            items = items.at(np.arange(places) % count)
        made = prepared.item(self._item_features(items), places)
        return {name: _repeated(value, count) for name, value in made.items()}

    def _item_features(self, items: PackedColumns) -> Mapping[str, Made]:
        """Return the features of items, [items, *shape] by name."""
        if self._read_items is not None and self._read_items.takes(items.matrices):
            return self._read_items(items.matrices)
        look_up = self.collection.arrays_once if self._prepared.takes_arrays else self.collection.lookup_once
        return look_up(block_of_columns(items.columns(), self._item.inputs), self._item.inputs)

    def _of_rows(self, rows: RowBlock) -> dict[str, Tensor]:
        """Return the answers of rows of many requests."""
        count, lookup = rows.count, self.collection.lookup_once
        request = lookup(rows, self._request.inputs)
        features = request | lookup(rows, self._item.inputs) | lookup(rows, self._pair)
        given = {**features, **self._prepared.request(request, count), **self._prepared.item(features, count)}
        if isinstance(self.way.backend, Interpreter) and not any(
            node.operation.couples for node in self.program.pair.nodes()
        ):
            return self._prepared.pair(given, count)
        if self._prepared.rows is not None and count >= _MANY_ROWS:
            return self._prepared.rows(given, count)
        each = [
            self._prepared.pair(
                {name: value if len(value) == 1 else value[row : row + 1] for name, value in given.items()}, 1
            )
            for row in range(count)
        ]
        return {name: torch.cat([answers[name] for answers in each]) for name in each[0]}


def _logits(value: Made, count: int) -> Logits:
    """Return a task's logits [rows]; one stands for all."""
    logits: Logits = as_array(value)
    return logits if len(logits) == count else np.broadcast_to(logits, count)


def _repeated(value: Made, count: int) -> Made:
    """Return the first rows of a value; one row stands for all."""
    if len(value) > 1 or count == 1:
        return value[:count]
    if isinstance(value, Tensor):
        return value.expand(count, *value.shape[1:])
    return np.broadcast_to(value, (count, *value.shape[1:]))


def _moved(
    columns: Columns, vocabularies: list[str | None], moved: Mapping[str, tuple[Rows, Rows]]
) -> tuple[Positions, Columns]:
    """Return which items have table rows that moved, and their columns with the rows of now."""
    places = [
        None if vocabulary is None else _places(column, moved[vocabulary][0])
        for column, vocabulary in zip(columns, vocabularies, strict=True)
    ]
    count = len(columns[0]) if columns else 0
    hits = [(place >= 0).reshape(count, -1).any(1) for place in places if place is not None]
    chosen = np.flatnonzero(np.logical_or.reduce(hits))
    found: list[Array] = []
    for column, vocabulary, place in zip(columns, vocabularies, places, strict=True):
        own = column[chosen]
        if vocabulary is not None and place is not None:
            own = np.where(place[chosen] >= 0, moved[vocabulary][1][place[chosen]], own)
        found.append(own)
    return chosen, found


def _places(column: Array, old: Rows) -> Positions:
    """Return where each row of a column stands among ``old`` ones, ascending; -1 where it does not."""
    place = np.minimum(np.searchsorted(old, column), len(old) - 1)
    return np.where(old[place] == column, place, -1)

"""All embedding tables of a model: 64-bit keys in, tensors out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bowerbird.embedding.deferred import DeferredFeatures, TableColumns, TableRows
from bowerbird.embedding.exact_tables import ExactTables, HandedRows
from bowerbird.embedding.feature_reader import FeatureReader
from bowerbird.embedding.inputs import (
    CategoryInput,
    Inputs,
    field_vocabulary,
    inputs_of,
    vocabularies,
    vocabulary_of,
)
from bowerbird.embedding.key_index import RESERVED_ROWS, KeyIndex
from bowerbird.embedding.matrix import side_by_side
from bowerbird.embedding.native_options import EVERY_OTHER, is_native, native_config
from bowerbird.embedding.rows import RowBlock, Rows
from bowerbird.embedding.served_table import RowFormat, rounded
from bowerbird.embedding.table import Table
from bowerbird.embedding.trained_table import TrainedTable
from bowerbird.errors import CorruptionError, InputError
from bowerbird.plan.block import FeatureBlock, Keys
from bowerbird.plan.spec import Plan

Counts = Mapping[str, tuple[Keys, npt.NDArray[np.int64]]]
"""By vocabulary: distinct keys and how often each was seen."""
Handed = dict[int, HandedRows]
"""The rows of exact tables by their width."""
Arrays = dict[str, npt.NDArray[np.generic]]


class EmbeddingCollection(nn.Module, FeatureReader):
    """One table per vocabulary: row 0 stands for a missing key, row 1 for all that are not admitted.

    ``forward`` returns the model inputs of ``docs/design.md``: a category is float32 [rows, dimension], a
    number [rows], a sequence [rows, length, dimension] newest first with its age and mask, a vector
    [rows, width] (zeros where it is unknown); in training sequences of exact tables are looked up when they are first
    read. A table is *exact*, a part of a PyTorch parameter of which every row
    takes part in every step, or *native* (``Table``): only the rows of a batch are updated, with ``step``.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes, admission and where tables live."""

        dimension: int = 16
        """Width of a row where ``dimensions`` says nothing."""
        dimensions: dict[str, int] = field(default_factory=dict)
        """Width by vocabulary."""
        minimum_count: int = 2
        """How often a key must be seen in training to get a row of its own."""
        initial_scale: float = 0.01
        """Standard deviation of new rows."""
        exact_rows: int = 1_000_000
        """A vocabulary that outgrows so many rows gets a native table with lazy Adam."""
        tables: dict[str, dict[str, Any]] = field(default_factory=dict)
        """Native tables by vocabulary, "*" for all that are not named: options of ``TableConfig``, such as
        ``{"user": {"optimiser": {"name": "RowWiseAdagrad", "learning_rate": 0.05}, "precision": "bfloat16"}}``."""

        def build(self, plan: Plan) -> EmbeddingCollection:
            """Return empty tables for a plan's vocabularies; raises InputError for an unknown one."""
            return EmbeddingCollection(plan, self)

    def __init__(self, plan: Plan, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or EmbeddingCollection.Config()
        self.plan = plan
        self.vocabularies = vocabularies(plan)
        _check_vocabularies(self.config, self.vocabularies)
        self.inputs: Inputs = inputs_of(plan, self.dimension_of)
        self.indexes: dict[str, KeyIndex | Table] = {}
        self.exact = nn.ModuleDict()
        self.native: dict[str, TrainedTable] = {}
        exact: dict[str, Tensor] = {}
        for name in self.vocabularies:
            if is_native(self.config.tables, name):
                self._make_native(name)
            else:
                self.indexes[name] = KeyIndex()
                exact[name] = self._new_rows(name, RESERVED_ROWS)
        self._put_exact(exact)

    def dimension_of(self, vocabulary: str) -> int:
        """Return the width of a vocabulary's rows."""
        return self.config.dimensions.get(vocabulary, self.config.dimension)

    def table(self, vocabulary: str) -> Tensor:
        """Return a vocabulary's rows, float32 [rows, dimension]: a view of an exact table, a copy of a native one."""
        if vocabulary in self.native:
            table = self.native[vocabulary].table
            return torch.from_numpy(table.take(np.arange(table.rows)))
        return self._exact(vocabulary).view(vocabulary)

    @property
    def exact_parameters(self) -> list[nn.Parameter]:
        """The parameters of exact tables, one for each width."""
        return [tables.rows for tables in self._all_exact()]

    def admit(self, counts: Counts) -> dict[str, int]:
        """Give rows to the new keys that were seen often enough; return how many by vocabulary.

        Exact tables grow, so an optimiser must be built afterwards.
        """
        grown: dict[str, Tensor] = {}
        admitted = {name: self._admit(name, keys, frequency, grown) for name, (keys, frequency) in counts.items()}
        self._put_exact(grown)
        return admitted

    def observe(self, block: FeatureBlock, time: float) -> None:
        """Count the keys of a block that is trained on at ``time`` (seconds), and admit those that are due.

        For streams whose keys were not counted before; raises InputError unless all tables are native.
        """
        for name, keys in block_keys(self.plan, block):
            if name not in self.native:
                raise InputError(
                    f"The table {name!r} is exact and cannot grow while it is trained.",
                    'Make it native: embedding.tables={"*": {}}.',
                )
            self.native[name].table.admit(keys, time)

    def expire(self, now: float) -> dict[str, int]:
        """Take away the rows that native tables' options say are due at ``now`` (seconds); return how many."""
        return {name: trained.table.expire(now) for name, trained in self.native.items()}

    def step(self, learning_rate: float, factor: float) -> None:
        """Update native tables with the gradients that came back since the last step.

        A table with a learning rate of its own uses that times ``factor``, the others ``learning_rate``.
        """
        for trained in self.native.values():
            trained.step(learning_rate, factor)

    def restore_table(self, vocabulary: str, path: Path) -> None:
        """Replace a native table by a snapshot, optimiser state and all; raises CorruptionError, NotFoundError."""
        table = Table.restore(path, threads=torch.get_num_threads())
        self.native[vocabulary] = TrainedTable(table, self.native[vocabulary].learning_rate)
        self.indexes[vocabulary] = table

    def forget_gradients(self) -> None:
        """Drop the gradients that wait for native tables."""
        for trained in self.native.values():
            trained.forget()

    def forward(self, block: FeatureBlock | RowBlock) -> dict[str, Tensor]:
        """Return the model inputs of a block; see the class."""
        return self.inputs_from(block)

    def export_arrays(self) -> Arrays:
        """Return ``<vocabulary>.keys`` uint64 [n] and ``<vocabulary>.rows`` float32 [n + 2, dimension]."""
        arrays: Arrays = {}
        for name in self.vocabularies:
            arrays[f"{name}.keys"], arrays[f"{name}.rows"] = self.export_table(name)
        return arrays

    def round_rows(self, format: RowFormat) -> None:
        """Set all rows to what files of ``format`` give back."""
        for name in self.vocabularies:
            if name in self.native:
                table = self.native[name].table
                every = np.arange(table.rows)
                table.set_rows(every, rounded(table.take(every), format))
            else:
                with torch.no_grad():
                    rows = self._exact(name).view(name)
                    rows.copy_(torch.from_numpy(rounded(rows.numpy(), format)))

    def import_arrays(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Replace all tables by exported arrays; raises CorruptionError where one is absent or misshapen."""
        exact: dict[str, Tensor] = {}
        for name in self.vocabularies:
            keys, rows = arrays.get(f"{name}.keys"), arrays.get(f"{name}.rows")
            if keys is None or rows is None:
                raise CorruptionError(f"The tables lack the vocabulary {name!r}.", "Publish the version again.")
            if rows.shape != (len(keys) + RESERVED_ROWS, self.dimension_of(name)):
                raise CorruptionError(
                    f"Table {name!r} has {len(keys)} keys but rows of shape {rows.shape}.",
                    "Publish the version again.",
                )
            if name in self.native or len(rows) > self.config.exact_rows:
                self._replace_by_native(name, keys.astype(np.uint64), rows.astype(np.float32))
            else:
                self.indexes[name] = KeyIndex(keys.astype(np.uint64))
                exact[name] = torch.from_numpy(rows.astype(np.float32))
        self._put_exact(exact)

    def _admit(
        self, name: str, keys: Keys, frequency: npt.NDArray[np.int64], grown: dict[str, Tensor]
    ) -> int:
        """Admit keys of one vocabulary; the rows of an exact table that grows are put in ``grown``."""
        if name in self.native:
            return self._admit_native(name, keys, frequency)
        index = self.indexes[name]
        assert isinstance(index, KeyIndex)
        admitted = index.admit(keys, frequency, self.config.minimum_count)
        if not admitted:
            return 0
        rows = torch.cat([self._exact(name).view(name).detach(), self._new_rows(name, admitted)])
        if len(rows) > self.config.exact_rows:
            self._replace_by_native(name, index.keys, rows.numpy())
        else:
            grown[name] = rows
        return admitted

    def _admit_native(self, name: str, keys: Keys, frequency: npt.NDArray[np.int64]) -> int:
        table = self.native[name].table
        before = len(table)
        chosen = frequency >= self.config.minimum_count
        order = np.lexsort((keys[chosen], -frequency[chosen]))
        table.admit(keys[chosen][order], counts=frequency[chosen][order])
        return len(table) - before

    def export_table(self, name: str) -> tuple[Keys, npt.NDArray[np.float32]]:
        """Return a vocabulary's keys uint64 [n] and rows float32 [n + 2, dimension], the reserved ones first."""
        index = self.indexes[name]
        if isinstance(index, KeyIndex):
            rows: npt.NDArray[np.float32] = self._exact(name).view(name).detach().numpy()
            return index.keys, rows
        keys, places = index.keys()
        return keys, index.take(np.concatenate([np.arange(RESERVED_ROWS), places]))

    def _make_native(self, name: str) -> None:
        seed = int(torch.randint(1 << 62, ()))
        start = (self.dimension_of(name), self.config.initial_scale, seed)
        config, learning_rate = native_config(self.config.tables, name, *start)
        table = Table(config, threads=torch.get_num_threads())
        self.native[name] = TrainedTable(table, learning_rate)
        self.indexes[name] = table

    def _replace_by_native(self, name: str, keys: Keys, rows: npt.NDArray[np.float32]) -> None:
        if name not in self.native:
            self._exact(name).remove(name)
        self._make_native(name)
        table = self.native[name].table
        table.put(keys, np.ascontiguousarray(rows[RESERVED_ROWS:]))
        table.set_rows(np.arange(RESERVED_ROWS), np.ascontiguousarray(rows[:RESERVED_ROWS]))

    def _put_exact(self, tables: Mapping[str, Tensor]) -> None:
        for width in dict.fromkeys(self.dimension_of(name) for name in tables):
            if str(width) not in self.exact:
                self.exact[str(width)] = ExactTables(width)
            members = {name: rows for name, rows in tables.items() if self.dimension_of(name) == width}
            self._exact(next(iter(members))).put(members)

    def _exact(self, name: str) -> ExactTables:
        tables = self.exact[str(self.dimension_of(name))]
        assert isinstance(tables, ExactTables)
        return tables

    def _all_exact(self) -> list[ExactTables]:
        return [tables for tables in self.exact.values() if isinstance(tables, ExactTables) and len(tables.rows)]

    def find_rows(self, vocabulary: str, keys: Keys) -> Rows:
        """Return each key's row, in the keys' shape."""
        return self.indexes[vocabulary].find(keys)

    def row_count(self, vocabulary: str) -> int:
        """Return how many rows a table has, the reserved ones included."""
        index = self.indexes[vocabulary]
        return index.rows if isinstance(index, Table) else len(index)

    def lookup(self, rows: RowBlock) -> dict[str, Tensor]:
        """Return the model inputs of a block of rows; in training those of exact tables wait until they are read."""
        if not (self.training and torch.is_grad_enabled() and _is_whole(rows)):
            return super().lookup(rows)
        handed = {tables.rows.shape[1]: tables.handed() for tables in self._all_exact()}
        sequences = tuple(replace(each, categories=self._native_of(each.categories)) for each in self.inputs.sequences)
        eager = replace(self.inputs, categories=self._native_of(self.inputs.categories), sequences=sequences)
        known = self.lookup_once(rows, eager)
        return DeferredFeatures(known, {**self._columns_in_tables(rows, handed), **self._rows_in_tables(rows, handed)})

    def _native_of(self, items: tuple[CategoryInput, ...]) -> tuple[CategoryInput, ...]:
        return tuple(item for item in items if item.vocabulary in self.native)

    def _columns_in_tables(self, rows: RowBlock, handed: Handed) -> dict[str, TableColumns]:
        """Return the rows that categories have in exact tables."""
        exact = [item for item in self.inputs.categories if item.vocabulary not in self.native]
        if not exact:
            return {}
        matrix = side_by_side(rows.categories, tuple(item.name for item in exact))
        column = {name: place for place, name in enumerate(matrix.names)}
        found: dict[int, dict[str, tuple[int, int]]] = {}
        for item in exact:
            start = self._exact(item.vocabulary).start(item.vocabulary)
            found.setdefault(item.dimension, {})[item.name] = column[item.name], start
        tables = [TableColumns(handed[width], matrix.values, columns) for width, columns in found.items()]
        return {name: table for table in tables for name in table.columns}

    def _rows_in_tables(self, rows: RowBlock, handed: Handed) -> dict[str, TableRows]:
        """Return the rows that sequences' categories have in exact tables."""
        return {
            item.name: TableRows(
                handed[item.dimension],
                *self._exact(item.vocabulary).range_of(item.vocabulary),
                rows.sequences[sequence.name].categories[item.name],
            )
            for sequence in self.inputs.sequences
            for item in sequence.categories
            if item.vocabulary not in self.native
        }

    def embed(self, items: Sequence[CategoryInput], columns: Mapping[str, Rows]) -> dict[str, Tensor]:
        """Return the vectors of category columns; exact ones of one width by one lookup."""
        features: dict[str, Tensor] = {}
        groups: dict[int, list[CategoryInput]] = {}
        for item in items:
            if item.vocabulary in self.native:
                features[item.name] = self.native[item.vocabulary].lookup(columns[item.name])
            else:
                groups.setdefault(item.dimension, []).append(item)
        for members in groups.values():
            tables = self._exact(members[0].vocabulary)
            places = [
                np.add(columns[item.name], tables.start(item.vocabulary), dtype=np.int64) for item in members
            ]
            features |= {item.name: vectors for item, vectors in zip(members, tables(places), strict=True)}
        return features

    def _new_rows(self, vocabulary: str, count: int) -> Tensor:
        return torch.randn(count, self.dimension_of(vocabulary)) * self.config.initial_scale


def _is_whole(rows: RowBlock) -> bool:
    """Say whether every column has all rows."""
    count = rows.count
    masks = (padded.mask for padded in rows.sequences.values())
    others = chain(rows.categories.values(), rows.numbers.values(), rows.vectors.values(), masks)
    return all(len(column) == count for column in others)


def block_keys(plan: Plan, block: FeatureBlock) -> Iterator[tuple[str, Keys]]:
    """Yield each category column of a block, those of sequences too: its vocabulary and keys uint64 [n]."""
    for feature in plan.of_kind("category"):
        yield vocabulary_of(feature), block.categories[feature.name]
    for feature in plan.of_kind("sequence"):
        for item in feature.fields:
            if item.is_category:
                keys = block.sequences[feature.name].fields[item.name].astype(np.uint64)
                yield field_vocabulary(feature, item.name), keys


def _check_vocabularies(config: EmbeddingCollection.Config, known: list[str]) -> None:
    for option, names in (("dimensions", config.dimensions), ("tables", config.tables)):
        unknown = sorted(set(names) - set(known) - ({EVERY_OTHER} if option == "tables" else set()))
        if unknown:
            raise InputError(
                f"{option} names the vocabulary {unknown[0]!r}, which the plan does not have.",
                f"Known vocabularies: {', '.join(known)}.",
            )

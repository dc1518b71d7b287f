"""All embedding tables of a published model: mapped files, and what changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.feature_reader import FeatureReader
from bowerbird.embedding.inputs import CategoryInput, Inputs, inputs_of, vocabularies
from bowerbird.embedding.item_reader import ItemReader
from bowerbird.embedding.key_index import RESERVED_ROWS
from bowerbird.embedding.request_reader import RequestReader
from bowerbird.embedding.rows import Rows
from bowerbird.embedding.served_columns import ServedColumns
from bowerbird.embedding.served_table import RowFormat, ServedTable, TableChange, write_served_table
from bowerbird.embedding.table import Vectors
from bowerbird.errors import CorruptionError
from bowerbird.plan.block import Keys
from bowerbird.plan.spec import Plan


class ServedCollection(FeatureReader):
    """A table for each vocabulary of a plan; immutable, for any number of threads.

    ``sequence`` is the number of the last delta that it holds, 0 for none, ``history`` that delta's SHA-256.
    """

    def __init__(self, plan: Plan, tables: Mapping[str, ServedTable], sequence: int = 0, history: str = "") -> None:
        self.plan = plan
        self.history = history
        self.tables = dict(tables)
        self.sequence = sequence
        self.inputs = inputs_of(plan, lambda name: self.tables[name].dimension)
        self._together: dict[tuple[str, ...], ServedColumns] = {}

    @staticmethod
    def open(plan: Plan, config: EmbeddingCollection.Config, folder: Path) -> ServedCollection:
        """Map the files that ``write_table`` wrote; raises CorruptionError where one is damaged or of another width."""
        tables = {name: ServedTable.open(folder / file) for name, file in table_files(plan).items()}
        for name, table in tables.items():
            width = config.dimensions.get(name, config.dimension)
            if table.dimension != width:
                raise CorruptionError(
                    f"Table {name!r} has rows of {table.dimension} numbers, not {width}.", "Publish the version again."
                )
        return ServedCollection(plan, tables)

    @property
    def changed_bytes(self) -> int:
        """The memory that changed rows take, of this process alone."""
        return sum(table.changed_bytes for table in self.tables.values())

    def find_rows(self, vocabulary: str, keys: Keys) -> Rows:
        """Return each key's row, in the keys' shape."""
        return self.tables[vocabulary].find(keys)

    def find_columns(self, vocabularies: tuple[str, ...], keys: Keys) -> Rows:
        """Return the rows of keys [columns, ...], by one call."""
        return self._columns_of(vocabularies).find(keys)

    def row_count(self, vocabulary: str) -> int:
        """Return how many rows a table's file has, the reserved ones included."""
        return len(self.tables[vocabulary]) + RESERVED_ROWS

    def vectors_of(self, items: Sequence[CategoryInput], columns: Mapping[str, Rows]) -> dict[str, Vectors]:
        """Return the vectors of category columns, float32 [..., dimension] by the items' names, by one call."""
        tables = self._columns_of(tuple(item.vocabulary for item in items))
        vectors = tables.take([columns[item.name] for item in items])
        return {item.name: each for item, each in zip(items, vectors, strict=True)}

    def reader_of(self, inputs: Inputs) -> RequestReader:
        """Return what reads inputs of one request at a time into a few arrays."""
        return RequestReader(inputs, self._columns_of)

    def item_reader(self, inputs: Inputs, stacks: Mapping[str, Sequence[str]]) -> ItemReader:
        """Return what reads plain inputs of items into a few arrays, numbers of ``stacks`` side by side."""
        return ItemReader(inputs, self._columns_of, stacks)

    def embed(self, items: Sequence[CategoryInput], columns: Mapping[str, Rows]) -> dict[str, Tensor]:
        """Return the vectors of category columns as tensors."""
        return {name: torch.from_numpy(vectors) for name, vectors in self.vectors_of(items, columns).items()}

    def with_changes(self, changes: Mapping[str, TableChange], sequence: int, history: str) -> ServedCollection:
        """Return a collection with a delta's changes by vocabulary, all of which it has."""
        changed = {name: self.tables[name].with_change(change) for name, change in changes.items()}
        return ServedCollection(self.plan, self.tables | changed, sequence, history)

    def _columns_of(self, vocabularies: tuple[str, ...]) -> ServedColumns:
        """Return the tables of some vocabularies side by side; made once for each that are asked for together."""
        found = self._together.get(vocabularies)
        if found is None:
            found = self._together[vocabularies] = ServedColumns([self.tables[name] for name in vocabularies])
        return found

    def moved_rows(self, before: ServedCollection) -> dict[str, tuple[Rows, Rows]]:
        """Return the rows of changed keys by vocabulary: those of an earlier collection, ascending, and those now.

        Keys that had no row of their own are left out.
        """
        changed = {name: table for name, table in self.tables.items() if table is not before.tables[name]}
        moved = {name: table.moved_rows(before.tables[name]) for name, table in changed.items()}
        return {name: rows for name, rows in moved.items() if len(rows[0])}

    def verify(self) -> None:
        """Read all files and compare them with their checksums; raises CorruptionError."""
        for table in self.tables.values():
            table.verify()


def table_files(plan: Plan) -> dict[str, str]:
    """Return the name of each vocabulary's file in a bundle."""
    return {name: f"tables/{place}.table" for place, name in enumerate(vocabularies(plan))}


def write_table(collection: EmbeddingCollection, vocabulary: str, format: RowFormat, path: Path) -> None:
    """Write one table of a trained collection; raises StorageError."""
    keys, rows = collection.export_table(vocabulary)
    write_served_table(path, keys, rows, format)

"""What the live side takes from the log at its start: records by plan, ids, items."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import UnavailableError
from bowerbird.kernels.keys import keys_of_texts
from bowerbird.log.imported.manifest import read_manifest
from bowerbird.log.imported.parts import read_part
from bowerbird.log.reader import LogReader
from bowerbird.log.schema import ID, record_schema
from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.encode import Encoder
from bowerbird.plan.spec import Plan
from bowerbird.recall.items import Id, ItemCatalog
from bowerbird.recall.live import item_record_types
from bowerbird.serving.known_ids import KnownIds


class LogHistory:
    """The log of a workspace, read anew for each plan."""

    def __init__(self, workspace: Workspace, stopping: threading.Event) -> None:
        self._workspace = workspace
        self._stopping = stopping

    def batches(self, plan: Plan, first: int, until: int) -> Iterator[RecordBatch]:
        """Yield the records from LSN ``first`` to below ``until``; UnavailableError once the server is stopping."""
        if first >= until:
            return
        for batch in LogReader(self._workspace).batches(plan, Encoder(plan), first, until):
            if self._stopping.is_set():
                raise UnavailableError("The server was stopped while it read the log.", "Start it again.")
            yield batch.records


class LiveRecords(Protocol):
    """The live part of the log."""

    def iterate(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (LSN, record) in order."""
        ...


def read_known_ids(workspace: Workspace, log: LiveRecords) -> KnownIds:
    """Return the ids of every record of the log."""
    known = KnownIds()
    for record in workspace.project.record_types:
        for column in _imported_columns(workspace, record.name, ID):
            known.add_imported(record.name, _text_keys(column))
    known.add((payload["_type"], payload["_id"]) for _, payload in log.iterate())
    return known


def read_items(workspace: Workspace, log: LiveRecords, items: ItemCatalog) -> None:
    """Add every item that the log names to ``items``, in order of type and time."""
    item = workspace.project.item.name
    types = item_record_types(workspace.project)
    for name in types:
        for column in _imported_columns(workspace, name, item):
            items.add(_distinct(column))
    items.add(payload[item] for _, payload in log.iterate() if payload["_type"] in types)


def _imported_columns(workspace: Workspace, type_name: str, column: str) -> Iterator[pa.ChunkedArray]:
    records = {record.name: record for record in workspace.project.record_types}
    schema = record_schema(records[type_name])
    for part in read_manifest(workspace.log_folder).of_type(type_name):
        yield read_part(workspace.log_folder, part, schema, [column]).column(column)


def _distinct(column: pa.ChunkedArray) -> list[Id]:
    identifiers: list[Id] = pc.unique(column.drop_null()).to_pylist()
    return identifiers


def _text_keys(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    texts = pa.concat_arrays(column.cast(pa.large_string()).chunks or [pa.array([], pa.large_string())])
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return keys_of_texts(content, np.ascontiguousarray(bounds))

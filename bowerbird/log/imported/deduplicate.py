"""One record per id: among conflicting ones the content decides, never the order of arrival."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.kernels.keys import keys_of_texts
from bowerbird.log.retractions import mark, original_ids
from bowerbird.log.rows.coerce import to_mask
from bowerbird.log.rows.vectors import as_bytes
from bowerbird.log.schema import ID, RETRACTS

_SHARES = 32


def split_by_id(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return int64 [n] share numbers: equal ids have equal ones, and so have a record and its retraction."""
    retracts = mark(table, RETRACTS)
    ids = table.column(ID).combine_chunks()
    if retracts.any():
        ids = pc.if_else(pa.array(retracts), original_ids(ids), ids)
    return (_keys(pa.chunked_array([ids])) % np.uint64(_SHARES)).astype(np.int64)


def split_orphans(new: pa.Table, read: pa.Table, stored: Iterable[pa.ChunkedArray]) -> tuple[pa.Table, pa.Table]:
    """Return the new records, and those taken from them: retractions of what is neither ``read`` nor ``stored``."""
    retracts = mark(new, RETRACTS)
    if not retracts.any():
        return new, new.slice(0, 0)
    originals = original_ids(new.column(ID).filter(pa.array(retracts)).combine_chunks())
    known = to_mask(pc.is_in(originals, value_set=read.column(ID).combine_chunks()))
    for part in stored:
        known |= to_mask(pc.is_in(originals, value_set=part.combine_chunks()))
    orphans = np.zeros(len(retracts), dtype=np.bool_)
    orphans[np.flatnonzero(retracts)[~known]] = True
    return new.filter(pa.array(~orphans)), new.filter(pa.array(orphans))


def _keys(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    texts = pa.concat_arrays(ids.cast(pa.large_string()).chunks or [pa.array([], pa.large_string())])
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, np.uint8)
    return keys_of_texts(content, np.ascontiguousarray(bounds))


def without_duplicates(table: pa.Table) -> pa.Table:
    """Return one row per id: the smallest by all columns in schema order (so the earliest in time)."""
    keys = _keys(table.column(ID))
    ordered = np.sort(keys)
    repeated = np.isin(keys, ordered[1:][ordered[1:] == ordered[:-1]])
    if not repeated.any():
        return table
    contested = table.filter(pa.array(repeated))
    order = pc.sort_indices(_sortable(contested), [(name, "ascending") for name in table.column_names])
    contested = contested.take(order)
    ids = contested.column(ID).combine_chunks()
    first = np.ones(len(ids), dtype=np.bool_)
    first[1:] = to_mask(pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    return pa.concat_tables([table.filter(pa.array(~repeated)), contested.filter(pa.array(first))])


def _sortable(table: pa.Table) -> pa.Table:
    """Return a table with its vectors as bytes."""
    for place, field in enumerate(table.schema):
        if pa.types.is_fixed_size_list(field.type):
            table = table.set_column(place, field.name, as_bytes(table.column(place)))
    return table


def without_stored(table: pa.Table, stored: Iterable[pa.ChunkedArray]) -> pa.Table:
    """Return the rows whose id is in none of the ``stored`` arrays."""
    ids = table.column(ID).combine_chunks()
    keys = _keys(table.column(ID))
    order = np.argsort(keys)
    keys = np.append(keys[order], np.uint64(0))  # no key is 0: it ends every search
    known = np.zeros(len(ids), dtype=np.bool_)
    for part in stored:
        wanted = _keys(part)
        places = np.argsort(wanted)  # ascending needles are found several times faster
        wanted = wanted[places]
        found = np.searchsorted(keys[:-1], wanted)
        while (hits := np.flatnonzero(keys[found] == wanted)).size:
            found, wanted, places = found[hits], wanted[hits], places[hits]
            rows = order[found]
            same = pc.equal(ids.take(pa.array(rows)), part.take(pa.array(places)).combine_chunks())
            known[rows[to_mask(same)]] = True
            found = found + 1
    return table.filter(pa.array(~known)) if known.any() else table

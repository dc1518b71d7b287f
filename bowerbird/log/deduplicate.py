"""One record per id: among conflicting ones the content decides, never the order of arrival."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.kernels.keys import keys_of_texts
from bowerbird.log.coerce import to_mask
from bowerbird.log.schema import ID

_SHARES = 32


def split_by_id(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return int64 [n] share numbers such that equal ids have equal ones."""
    return (_keys(table.column(ID)) % np.uint64(_SHARES)).astype(np.int64)


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
    order = pc.sort_indices(contested, [(name, "ascending") for name in table.column_names])
    contested = contested.take(order)
    ids = contested.column(ID).combine_chunks()
    first = np.ones(len(ids), dtype=np.bool_)
    first[1:] = to_mask(pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    return pa.concat_tables([table.filter(pa.array(~repeated)), contested.filter(pa.array(first))])


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

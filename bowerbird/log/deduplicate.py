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
    ids = table.column(ID).cast(pa.large_string()).combine_chunks()
    ids = pa.concat_arrays(ids.chunks) if isinstance(ids, pa.ChunkedArray) else ids
    _, offsets, data = ids.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[ids.offset : ids.offset + len(ids) + 1]
    keys = keys_of_texts(np.frombuffer(data, dtype=np.uint8), np.ascontiguousarray(bounds))
    return (keys % np.uint64(_SHARES)).astype(np.int64)


def without_duplicates(table: pa.Table) -> pa.Table:
    """Return one row per id: the smallest by all columns in schema order (so the earliest in time)."""
    codes = table.column(ID).combine_chunks().dictionary_encode()
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    numbers = codes.indices.to_numpy(zero_copy_only=False)
    repeated = np.bincount(numbers, minlength=len(codes.dictionary))[numbers] > 1
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
    known = np.zeros(len(ids), dtype=np.bool_)
    for part in stored:
        matched = part.filter(pc.is_in(part, value_set=ids))
        if len(matched):
            known |= to_mask(pc.is_in(ids, value_set=matched))
    return table.filter(pa.array(~known)) if known.any() else table

"""Records that take back earlier ones, and what stands once they have been heard."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.log.rows.coerce import to_mask
from bowerbird.log.rows.faults import Mask
from bowerbird.log.schema import FORGOTTEN, ID, MARKS, RETRACTS

SUFFIX = "#retracted"
"""What a retraction's id adds to the id of the record that it takes back."""


def retraction_id(original: str) -> str:
    """Return the id of the retraction of a record."""
    return original + SUFFIX


def original_id(retraction: str) -> str:
    """Return the id of the record that a retraction takes back."""
    return retraction.removesuffix(SUFFIX)


def retraction_ids(originals: pa.Array, retracts: Mask) -> pa.Array:
    """Return string [n]: the ids, and for the rows of a bool [n] mask the ids of their retractions."""
    if not retracts.any():
        return originals
    return pc.if_else(pa.array(retracts), pc.binary_join_element_wise(originals, SUFFIX, ""), originals)


def original_ids(retractions: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return string [n]: the ids of the records that retractions take back."""
    return pc.utf8_slice_codeunits(retractions, 0, -len(SUFFIX))


def mark(table: pa.Table, name: str) -> Mask:
    """Return one of a table's marks as bool [n]; a record without it has null there, or its table no such column."""
    column = table.column(name) if name in table.column_names else None
    if column is None or column.null_count == len(column):
        return np.zeros(table.num_rows, dtype=np.bool_)
    return to_mask(column.combine_chunks())


def standing(table: pa.Table) -> pa.Table:
    """Return the records that were neither taken back nor forgotten, without the marks and the retractions."""
    retracts, forgotten = mark(table, RETRACTS), mark(table, FORGOTTEN)
    plain = table.drop_columns(list(MARKS))
    if not retracts.any() and not forgotten.any():
        return plain
    gone = original_ids(table.column(ID).filter(pa.array(retracts)))
    taken_back = to_mask(pc.is_in(table.column(ID), value_set=gone).combine_chunks())
    return plain.filter(pa.array(~(retracts | forgotten | taken_back)))

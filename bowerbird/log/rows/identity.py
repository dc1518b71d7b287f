"""Event ids: given by a column, or derived from the row so that distinct rows stay distinct."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bowerbird.declare.columns import ColumnType
from bowerbird.log.rows.coerce import coerce

SEPARATOR = "|"
ACTION_SEPARATOR = "#"


def join_key(parts: Sequence[pa.Array]) -> pa.Array:
    """Return string [n]: the parts joined by ``|``; ``\\`` and ``|`` inside them are escaped by ``\\``.

    Null where a part is null, empty or not UTF-8.
    """
    texts = [_key_text(part) for part in parts]
    return texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, SEPARATOR)


def join_key_values(parts: Sequence[object]) -> str:
    """Return one row's key, as ``join_key`` does for its texts and integers."""
    return SEPARATOR.join(str(part) if type(part) is int else _escape(str(part)) for part in parts)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(SEPARATOR, "\\" + SEPARATOR)


def action_id(parents: pa.Array, event: str) -> pa.Array:
    """Return string [n]: the ids of the action events that rows imply."""
    return pc.binary_join_element_wise(parents, event, ACTION_SEPARATOR)


def times_as_key(times: npt.NDArray[np.int64]) -> pa.Array:
    """Return int64 [n] microseconds as a part of a key."""
    return pa.array(times, pa.int64())


def _key_text(part: pa.Array) -> pa.Array:
    if isinstance(part, pa.ChunkedArray):
        part = part.combine_chunks()
    if pa.types.is_dictionary(part.type):
        part = part.dictionary_decode()
    if pa.types.is_integer(part.type) or pa.types.is_boolean(part.type):
        return part.cast(pa.string())
    if pa.types.is_floating(part.type):
        return pc.if_else(pc.is_nan(part), None, part).cast(pa.string())
    text = coerce(part.cast(pa.string()), ColumnType.TEXT).values
    escaped = pc.replace_substring(text, "\\", "\\\\")
    return pc.replace_substring(escaped, SEPARATOR, "\\" + SEPARATOR)

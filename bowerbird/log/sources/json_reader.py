"""JSON lines, streamed: one object a line."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from bowerbird.log.rows.faults import EMPTY_FILE, TRUNCATED_FILE, UNREADABLE_LINE, WRONG_TYPE
from bowerbird.log.sources.readers import RawBatch, Unreadable
from bowerbird.log.sources.streams import LineStream

Row = dict[str, Any]
_BLOCK = 4 << 20
_decoder = msgspec.json.Decoder()


class JsonReader:
    """A file of JSON objects, one a line; its columns are the names in its first block of lines.

    The columns in ``arrays`` may hold arrays; another with an array or object makes its line no row.
    """

    def __init__(self, path: Path, arrays: Collection[str] = ()) -> None:
        self._arrays = arrays
        self._stream = LineStream(path)
        self._block = self._stream.read_lines(_BLOCK)
        self._line = 1

    def columns(self) -> list[str]:
        """Return the names that occur in the first lines, in order of appearance."""
        names: dict[str, None] = {}
        for line in self._block.splitlines()[:10_000]:
            row = _parse(line)
            if isinstance(row, dict):
                names.update(dict.fromkeys(row))
        return list(names)

    def fraction(self) -> float:
        """Return the share of the (compressed) bytes read."""
        return self._stream.fraction()

    def batches(self, columns: Sequence[str]) -> Iterator[RawBatch | Unreadable]:
        """Yield the rows, the lines that are no JSON object, and why the file ended early if it did."""
        if not self._block.strip() and self._stream.broken is None:
            yield Unreadable(0, EMPTY_FILE, "the file has no line")
        while self._block:
            yield from self._read_block(columns)
            self._block = self._stream.read_lines(_BLOCK)
        if self._stream.broken is not None:
            text = self._stream.lost.decode("utf-8", "replace")
            yield Unreadable(self._line, TRUNCATED_FILE, f"the file ends early: {self._stream.broken}", text)

    def _read_block(self, columns: Sequence[str]) -> Iterator[RawBatch | Unreadable]:
        lines = self._block.split(b"\n")
        rows: list[Row] = []
        numbers: list[int] = []
        for number, line in enumerate(lines, start=self._line):
            row = _parse(line)
            fault = _fault(row, columns, self._arrays)
            if fault is not None:
                yield Unreadable(number, *fault, line.decode("utf-8", "replace"))
            elif row is not None:
                rows.append(row)
                numbers.append(number)
        self._line += len(lines) - (lines[-1] == b"")
        if not rows:
            return
        arrays = [_column([row.get(name) for row in rows], name in self._arrays) for name in columns]
        yield RawBatch(pa.RecordBatch.from_arrays(arrays, names=list(columns)), np.array(numbers, dtype=np.int64))


def _parse(line: bytes) -> Any:
    """Return a line's value, None for a blank line, and the error where it is not JSON."""
    if not line or line.isspace():
        return None
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return error


def _fault(row: Any, columns: Sequence[str], arrays: Collection[str]) -> tuple[str, str] | None:
    if row is None:
        return None
    if isinstance(row, Exception):
        return UNREADABLE_LINE, str(row)
    if not isinstance(row, dict):
        return UNREADABLE_LINE, f"expected a JSON object, found {type(row).__name__}"
    nested = [name for name in columns if isinstance(row.get(name), dict if name in arrays else dict | list)]
    return (WRONG_TYPE, f"{nested[0]} holds an array or object: expected a text, number or boolean") if nested else None


def _column(values: list[Any], as_text: bool) -> pa.Array:
    """Return a column of the type that all values have, or of texts; arrays always as texts, which hides no type."""
    with suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        if not as_text:
            return pa.array(values)
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    """Return a value of a column of mixed types as JSON writes it, texts bare."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()

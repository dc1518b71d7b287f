"""CSV and other delimited text, streamed; every column is read as text, so that ``007`` stays ``007``."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as arrow_csv

from bowerbird.log.rows.faults import (
    EMPTY_FILE,
    TRUNCATED_FILE,
    UNBALANCED_QUOTE,
    UNREADABLE_FILE,
    UNREADABLE_LINE,
)
from bowerbird.log.sources.readers import RawBatch, Unreadable
from bowerbird.log.sources.streams import LineStream

_BLOCK = 4 << 20
_DELIMITERS = ",\t;|"


class CsvReader:
    """A delimited text file with a header, whose commonest of comma, tab, semicolon, bar is the delimiter.

    Line numbers count the header as 1 and skip blank lines; a quoted value with line breaks counts once.
    """

    def __init__(self, path: Path) -> None:
        self._stream = LineStream(path)
        header = self._stream.first_line().decode("utf-8", "replace")
        self._delimiter = max(_DELIMITERS, key=header.count)
        self._columns = next(csv.reader([header], delimiter=self._delimiter), []) if header else []
        self._skipped: list[Unreadable] = []
        self._skipped_lines: list[int] = []
        self._rows = 0

    def columns(self) -> list[str]:
        """Return the header's names."""
        return self._columns

    def fraction(self) -> float:
        """Return the share of the (compressed) bytes read."""
        return self._stream.fraction()

    def batches(self, columns: Sequence[str]) -> Iterator[RawBatch | Unreadable]:
        """Yield the rows, the lines with a wrong number of values, and why the file ended early if it did."""
        if not self._columns:
            yield self._broken() or Unreadable(0, EMPTY_FILE, "the file has no header line")
            return
        try:
            for batch in self._open(columns):
                lines = self._lines(batch.num_rows)
                self._rows += batch.num_rows
                yield RawBatch(batch, lines)
                yield from self._take_skipped()
        except pa.ArrowInvalid as error:
            yield Unreadable(self._next_line(), UNREADABLE_FILE, f"the rest cannot be read: {error}")
        yield from self._take_skipped()
        yield from self._endings()

    def _open(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return iter(
            arrow_csv.open_csv(
                pa.PythonFile(self._stream, mode="r"),
                read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_BLOCK),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=self._skip
                ),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=list(columns),
                    column_types={name: pa.string() for name in columns},
                    null_values=[""],
                    strings_can_be_null=True,
                    check_utf8=False,
                ),
            )
        )

    def _skip(self, row: arrow_csv.InvalidRow) -> str:
        detail = f"expected {row.expected_columns} values, found {row.actual_columns}"
        self._skipped.append(Unreadable(row.number, UNREADABLE_LINE, detail, row.text))
        self._skipped_lines.append(row.number)
        return "skip"

    def _take_skipped(self) -> Iterator[Unreadable]:
        taken, self._skipped = self._skipped, []
        yield from taken

    def _lines(self, count: int) -> npt.NDArray[np.int64]:
        """Return the line numbers of the next good rows: bad line number k moves what follows it by one."""
        rows = np.arange(self._rows + 2, self._rows + 2 + count)
        bad = np.array(self._skipped_lines, dtype=np.int64)
        return rows + np.searchsorted(bad - np.arange(len(bad)), rows, side="right")

    def _next_line(self) -> int:
        return int(self._lines(1)[0])

    def _broken(self) -> Unreadable | None:
        if self._stream.broken is None:
            return None
        text = self._stream.lost.decode("utf-8", "replace")
        return Unreadable(self._next_line(), TRUNCATED_FILE, f"the file ends early: {self._stream.broken}", text)

    def _endings(self) -> Iterator[Unreadable]:
        broken = self._broken()
        if broken is not None:
            yield broken
        if self._stream.quotes % 2:
            detail = "a double quote is not closed; lines after it may have been read as one value"
            yield Unreadable(self._next_line() - 1, UNBALANCED_QUOTE, detail)

"""Which reader a file's name calls for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bowerbird.durable import storage_errors
from bowerbird.errors import InputError
from bowerbird.log.sources.csv_reader import CsvReader
from bowerbird.log.sources.json_reader import JsonReader
from bowerbird.log.sources.readers import EmptyReader, ParquetReader, RawReader

PARQUET = (".parquet", ".pq")
DELIMITED = (".csv", ".tsv", ".txt", ".inter", ".item", ".user")
JSON_LINES = (".jsonl", ".ndjson", ".json")
COMPRESSED = (".gz", ".zst")


def open_reader(path: Path, arrays: Collection[str] = ()) -> RawReader:
    """Return the reader for a file by its name's ending; raises InputError on an unknown one.

    ``arrays`` are the columns that may hold arrays, in formats where the file does not say it.
    """
    ending = Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix
    if ending not in (*PARQUET, *DELIMITED, *JSON_LINES) or (ending in PARQUET and path.suffix in COMPRESSED):
        raise InputError(
            f"{path} has no known format: its name ends in {path.suffix or 'nothing'!r}.",
            f"Readable are {', '.join((*PARQUET, *DELIMITED, *JSON_LINES))}, the texts also with .gz or .zst after it.",
        )
    with storage_errors(path):
        if path.stat().st_size == 0:
            return EmptyReader()
        if ending in PARQUET:
            return ParquetReader(path)
        return JsonReader(path, arrays) if ending in JSON_LINES else CsvReader(path)

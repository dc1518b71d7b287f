"""A table's keys and vectors as Parquet or safetensors, for other tools; optimiser state stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bowerbird.durable import new_file
from bowerbird.embedding.table import Keys, Table, Vectors
from bowerbird.errors import CorruptionError


def export_parquet(table: Table, path: Path) -> None:
    """Write the columns ``key`` uint64 and ``vector``, a list of float32 of fixed size, in row order."""
    keys, rows = table.keys()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(table.take(rows).reshape(-1)), table.config.dimension)
    with new_file(path) as file:
        pq.write_table(pa.table({"key": keys, "vector": vectors}), file)


def import_parquet(table: Table, path: Path) -> int:
    """Put the file's vectors into a table, with fresh optimiser state; return how many there were."""
    try:
        content = pq.read_table(path, columns=["key", "vector"]).combine_chunks()
        flat = content["vector"].combine_chunks().flatten()
        keys = content["key"].to_numpy().astype(np.uint64)
        vectors = flat.to_numpy().astype(np.float32).reshape(len(keys), -1)
    except (pa.ArrowInvalid, pa.ArrowKeyError, ValueError) as error:
        raise CorruptionError(f"{path} has no keys and vectors: {error}.", "Export it again.") from error
    table.put(keys, vectors)
    return len(keys)


def export_safetensors(table: Table, path: Path) -> None:
    """Write the tensors ``keys`` uint64 [n] and ``vectors`` float32 [n, dimension], in row order."""
    keys, rows = table.keys()
    vectors = table.take(rows)
    end = keys.nbytes + vectors.nbytes
    header = json.dumps({
        "keys": {"dtype": "U64", "shape": [len(keys)], "data_offsets": [0, keys.nbytes]},
        "vectors": {"dtype": "F32", "shape": list(vectors.shape), "data_offsets": [keys.nbytes, end]},
    }).encode()  # fmt: skip
    header += b" " * (-len(header) % 8)
    with new_file(path) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(keys.astype("<u8").data)
        file.write(vectors.astype("<f4").data)


def import_safetensors(table: Table, path: Path) -> int:
    """Put the tensors that ``export_safetensors`` wrote into a table, with fresh optimiser state; return how many."""
    keys, vectors = _read_safetensors(path)
    table.put(keys, vectors)
    return len(keys)


def _read_safetensors(path: Path) -> tuple[Keys, Vectors]:
    data = np.fromfile(path, np.uint8)
    try:
        size = int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8 : 8 + size].tobytes())
        body = data[8 + size :]
        first, second = header["keys"], header["vectors"]
        keys = body[slice(*first["data_offsets"])].copy().view("<u8").reshape(first["shape"])
        vectors = body[slice(*second["data_offsets"])].copy().view("<f4").reshape(second["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"{path} has no keys and vectors: {error}.", "Export it again.") from error
    return keys.astype(np.uint64), vectors.astype(np.float32)

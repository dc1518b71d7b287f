"""Feature blocks as JSON: keys as integers, unknown numbers and vectors as null."""

from __future__ import annotations

import msgspec
import numpy as np

from bowerbird.plan.block import FeatureBlock, Keys, Numbers, Ragged


class RaggedJson(msgspec.Struct, frozen=True):
    """A ``Ragged`` as plain data; ``keys`` and ``numbers`` are its fields by kind."""

    offsets: list[int]
    keys: dict[str, list[int]]
    numbers: dict[str, list[float | None]]
    age: list[float | None]


class VectorsJson(msgspec.Struct, frozen=True):
    """Vectors as plain data: null where a row is unknown."""

    width: int
    rows: list[list[float] | None]


class BlockJson(msgspec.Struct, frozen=True):
    """A ``FeatureBlock`` as plain data."""

    categories: dict[str, list[int]]
    numbers: dict[str, list[float | None]]
    sequences: dict[str, RaggedJson]
    vectors: dict[str, VectorsJson] = {}


def block_to_json(block: FeatureBlock) -> BlockJson:
    """Return a block as plain data; infinite numbers become null."""
    return BlockJson(
        categories={name: keys.tolist() for name, keys in block.categories.items()},
        numbers={name: _numbers_out(values) for name, values in block.numbers.items()},
        sequences={name: _ragged_out(ragged) for name, ragged in block.sequences.items()},
        vectors={name: _vectors_out(values) for name, values in block.vectors.items()},
    )


def block_from_json(data: BlockJson) -> FeatureBlock:
    """Return the block that plain data stands for."""
    return FeatureBlock(
        categories={name: np.array(keys, np.uint64) for name, keys in data.categories.items()},
        numbers={name: _numbers_in(values) for name, values in data.numbers.items()},
        sequences={name: _ragged_in(ragged) for name, ragged in data.sequences.items()},
        vectors={name: _vectors_in(vectors) for name, vectors in data.vectors.items()},
    )


def _numbers_out(values: Numbers) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _numbers_in(values: list[float | None]) -> Numbers:
    return np.array([np.nan if value is None else value for value in values], np.float32)


def _vectors_out(values: Numbers) -> VectorsJson:
    return VectorsJson(values.shape[1], [row.tolist() if np.isfinite(row).all() else None for row in values])


def _vectors_in(data: VectorsJson) -> Numbers:
    vectors = np.full((len(data.rows), data.width), np.nan, np.float32)
    for place, row in enumerate(data.rows):
        if row is not None:
            vectors[place] = row
    return vectors


def _ragged_out(ragged: Ragged) -> RaggedJson:
    keys = {name: values.tolist() for name, values in ragged.fields.items() if values.dtype == np.uint64}
    numbers = {
        name: _numbers_out(values.astype(np.float32))
        for name, values in ragged.fields.items()
        if values.dtype != np.uint64
    }
    return RaggedJson(ragged.offsets.tolist(), keys, numbers, _numbers_out(ragged.age))


def _ragged_in(data: RaggedJson) -> Ragged:
    fields: dict[str, Keys | Numbers] = {name: np.array(keys, np.uint64) for name, keys in data.keys.items()}
    fields |= {name: _numbers_in(values) for name, values in data.numbers.items()}
    return Ragged(np.array(data.offsets, np.int64), fields, _numbers_in(data.age))

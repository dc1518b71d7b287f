"""One served slate as bytes: a msgpack header, then the raw arrays of features and scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.errors import CorruptionError
from bowerbird.plan.block import FeatureBlock, Ragged

Id = str | int
SlateKind = Literal["score", "recommend"]
Scores = dict[str, npt.NDArray[np.float32]]
_ENCODER = msgspec.msgpack.Encoder()
_LENGTH_BYTES = 4
_Decoded = TypeVar("_Decoded")


@dataclass(frozen=True)
class Slate:
    """What was answered, and all that is needed to compute it again.

    ``features`` are as read at (``lsn``, ``time``), before ``given`` (feature values of the request, for all
    candidates) and ``candidate_given`` (by candidate position) override them. ``scores`` are calibrated
    float32 [candidates] by task; ``ranking`` combines them. ``shown`` are the positions of the items of a
    recommendation, best first; empty for a score request, whose app decides.
    """

    slate_id: str
    kind: SlateKind
    lsn: int
    time: int
    scene: str
    user: Id
    context: dict[str, Any]
    candidates: list[Id]
    model: str
    version: int
    plan: str
    features: FeatureBlock
    scores: Scores
    ranking: npt.NDArray[np.float32]
    given: dict[str, Any] = field(default_factory=dict)
    candidate_given: dict[int, dict[str, Any]] = field(default_factory=dict)
    shown: list[int] = field(default_factory=list)


class _Column(msgspec.Struct, array_like=True):
    """Where an array stands: ``group`` (category, number, score, ranking, or a part of a sequence)."""

    group: str
    name: str
    part: str
    dtype: str
    count: int


class _Header(msgspec.Struct):
    slate_id: str
    kind: SlateKind
    lsn: int
    time: int
    scene: str
    user: Id
    context: dict[str, Any]
    candidates: list[Id]
    model: str
    version: int
    plan: str
    given: dict[str, Any]
    candidate_given: dict[int, dict[str, Any]]
    shown: list[int]
    columns: list[_Column]


class SlatePoint(msgspec.Struct):
    """What a slate had seen: the records below ``lsn``, at ``time`` (microseconds)."""

    slate_id: str
    lsn: int
    time: int


_POINT_DECODER = msgspec.msgpack.Decoder(SlatePoint)
_DECODER = msgspec.msgpack.Decoder(_Header)


def encode_slate(slate: Slate) -> list[bytes | memoryview]:
    """Return the slate as buffers to be written one after another."""
    columns: list[_Column] = []
    buffers: list[bytes | memoryview] = []
    for group, name, part, array in _arrays_of(slate):
        contiguous = np.ascontiguousarray(array)
        columns.append(_Column(group, name, part, contiguous.dtype.str, len(contiguous)))
        buffers.append(contiguous.view(np.uint8).data)
    header = _ENCODER.encode(
        _Header(
            slate.slate_id, slate.kind, slate.lsn, slate.time, slate.scene, slate.user, slate.context,
            slate.candidates, slate.model, slate.version, slate.plan, slate.given, slate.candidate_given,
            slate.shown, columns,
        )
    )  # fmt: skip
    return [len(header).to_bytes(_LENGTH_BYTES, "little"), header, *buffers]


def decode_slate(data: bytes) -> Slate:
    """Return the slate that ``encode_slate`` wrote; CorruptionError on other bytes."""
    header, start = _decode_header(data, _DECODER)
    parts = _Parts()
    for column in header.columns:
        array = np.frombuffer(data, np.dtype(column.dtype), column.count, start)
        start += array.nbytes
        parts.add(column, array)
    return Slate(
        header.slate_id, header.kind, header.lsn, header.time, header.scene, header.user, header.context,
        header.candidates, header.model, header.version, header.plan, parts.block(header.lsn), parts.scores,
        parts.ranking, header.given, header.candidate_given, header.shown,
    )  # fmt: skip


def decode_point(data: bytes) -> SlatePoint:
    """Return what a slate that ``encode_slate`` wrote had seen; CorruptionError on other bytes."""
    return _decode_header(data, _POINT_DECODER)[0]


def _decode_header(data: bytes, decoder: msgspec.msgpack.Decoder[_Decoded]) -> tuple[_Decoded, int]:
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    try:
        return decoder.decode(memoryview(data)[_LENGTH_BYTES:end]), end
    except msgspec.DecodeError as error:
        raise CorruptionError(f"A slate's header is damaged: {error}.", "Delete the segment.") from error


def _arrays_of(slate: Slate) -> list[tuple[str, str, str, npt.NDArray[Any]]]:
    block = slate.features
    arrays: list[tuple[str, str, str, npt.NDArray[Any]]] = []
    arrays += [("category", name, "", keys) for name, keys in block.categories.items()]
    arrays += [("number", name, "", values) for name, values in block.numbers.items()]
    for name, ragged in block.sequences.items():
        arrays.append(("offsets", name, "", ragged.offsets))
        arrays.append(("age", name, "", ragged.age))
        arrays += [("field", name, part, values) for part, values in ragged.fields.items()]
    arrays += [("score", name, "", values) for name, values in slate.scores.items()]
    arrays.append(("ranking", "", "", slate.ranking))
    return arrays


class _Parts:
    """Arrays on their way back into a block."""

    def __init__(self) -> None:
        self.scores: Scores = {}
        self.ranking = np.empty(0, np.float32)
        self._categories: dict[str, Any] = {}
        self._numbers: dict[str, Any] = {}
        self._offsets: dict[str, Any] = {}
        self._ages: dict[str, Any] = {}
        self._fields: dict[str, dict[str, Any]] = {}

    def add(self, column: _Column, array: npt.NDArray[Any]) -> None:
        if column.group == "field":
            self._fields.setdefault(column.name, {})[column.part] = array
        elif column.group == "ranking":
            self.ranking = array
        else:
            targets = {
                "category": self._categories,
                "number": self._numbers,
                "offsets": self._offsets,
                "age": self._ages,
                "score": self.scores,
            }
            targets[column.group][column.name] = array

    def block(self, lsn: int) -> FeatureBlock:
        sequences = {
            name: Ragged(offsets, self._fields.get(name, {}), self._ages[name])
            for name, offsets in self._offsets.items()
        }
        return FeatureBlock(self._categories, self._numbers, sequences, lsn)

"""One served slate as bytes: a msgpack header, then the raw arrays of features and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from bowerbird.errors import CorruptionError
from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.plan.columns import Columns

Id = str | int
SlateKind = Literal["score", "recommend"]
Scores = dict[str, npt.NDArray[np.float32]]
_ENCODER = msgspec.msgpack.Encoder()
_LENGTH_BYTES = 4
_SINGLE_KINDS = ("offsets", "age", "field", "vector")
AnyArray = npt.NDArray[Any]
Buffer: TypeAlias = bytes | memoryview
"""Bytes one after another: a view's elements are bytes, too."""


@dataclass(frozen=True)
class Slate:
    """What was answered, and all that is needed to compute it again.

    ``features`` are as read at (``lsn``, ``time``), before ``given`` (feature values of the request, for all
    candidates) and ``candidate_given`` (by candidate position) override them. ``scores`` are calibrated
    float32 [candidates] by task; ``ranking`` combines them. ``shown`` are the positions of the items of a
    recommendation, best first; empty for a score request, whose app decides. ``way`` says how the model was served,
    ``host`` (a ``Host``'s fingerprint) on what; both are empty where the slate is older than they are. ``delta`` is the
    number of the last embedding delta that the model held.
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
    way: str = ""
    host: str = ""
    delta: int = 0

    def load(self) -> Slate:
        """Return the slate, which is in memory."""
        return self


class SlateReference(Protocol):
    """A slate, or where one stands on disk."""

    @property
    def model(self) -> str:
        """The model that answered."""
        ...

    @property
    def version(self) -> int:
        """Its version."""
        ...

    @property
    def lsn(self) -> int:
        """The log's position at which features were read."""
        ...

    def load(self) -> Slate | None:
        """Return the slate; None where it has been removed."""
        ...


class _Part(msgspec.Struct, array_like=True):
    """Where arrays stand: columns of one kind and length end to end, or one array of a sequence or a vector.

    ``kind`` is category, number, score or ranking (``names`` are the columns'), or offsets, age or field (``names``
    are the sequence's and the field's), or vector (``names`` are its name and its width); ``rows`` is the length of
    each.
    """

    kind: str
    dtype: str
    rows: int
    names: Sequence[str]


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
    parts: list[_Part]
    way: str = ""
    host: str = ""
    delta: int = 0


_DECODER = msgspec.msgpack.Decoder(_Header)


class SlateKey(msgspec.Struct):
    """What slates are found, chosen and ordered by."""

    slate_id: str
    lsn: int
    time: int
    model: str
    version: int


_KEY_DECODER = msgspec.msgpack.Decoder(SlateKey)


def encode_slate(slate: Slate) -> list[Buffer]:
    """Return the slate as buffers to be written one after another."""
    parts: list[_Part] = []
    buffers: list[Buffer] = []
    for kind, names, array, rows in _arrays_of(slate):
        parts.append(_Part(kind, array.dtype.str, rows, names))
        buffers.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    header = _ENCODER.encode(
        _Header(
            slate.slate_id, slate.kind, slate.lsn, slate.time, slate.scene, slate.user, slate.context,
            slate.candidates, slate.model, slate.version, slate.plan, slate.given, slate.candidate_given,
            slate.shown, parts, slate.way, slate.host, slate.delta,
        )
    )  # fmt: skip
    return [len(header).to_bytes(_LENGTH_BYTES, "little"), header, *buffers]


def decode_slate(data: bytes) -> Slate:
    """Return the slate that ``encode_slate`` wrote; CorruptionError on other bytes."""
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    try:
        header = _DECODER.decode(memoryview(data)[_LENGTH_BYTES:start])
    except msgspec.DecodeError as error:
        raise CorruptionError(f"A slate's header is damaged: {error}.", "Delete the segment.") from error
    arrays = _Arrays()
    for part in header.parts:
        dtype = np.dtype(part.dtype)
        columns = 1 if part.kind in _SINGLE_KINDS else len(part.names)
        arrays.add(part, np.frombuffer(data, dtype, columns * part.rows, start))
        start += columns * part.rows * dtype.itemsize
    return Slate(
        header.slate_id, header.kind, header.lsn, header.time, header.scene, header.user, header.context,
        header.candidates, header.model, header.version, header.plan, arrays.block(header.lsn), arrays.scores,
        arrays.ranking, header.given, header.candidate_given, header.shown, header.way, header.host, header.delta,
    )  # fmt: skip


def read_slate_key(stream: BinaryIO, position: int, file: Path) -> SlateKey:
    """Return the key of the slate at a place in a segment; the arrays are not read. Raises CorruptionError."""
    stream.seek(position)
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    try:
        return _KEY_DECODER.decode(stream.read(length))
    except msgspec.MsgspecError as error:
        raise CorruptionError(
            f"{file} is damaged at byte {position:,}: {error}.", "Restore the file, or delete it: its slates are lost."
        ) from error


def _arrays_of(slate: Slate) -> Iterator[tuple[str, Sequence[str], AnyArray, int]]:
    """Yield (kind, names, array, rows of one column)."""
    block = slate.features
    yield from _packed("category", block.categories)
    yield from _packed("number", block.numbers)
    for name, ragged in block.sequences.items():
        yield "offsets", [name], ragged.offsets, len(ragged.offsets)
        yield "age", [name], ragged.age, len(ragged.age)
        for field_name, values in ragged.fields.items():
            yield "field", [name, field_name], values, len(values)
    for name, vectors in block.vectors.items():
        yield "vector", [name, str(vectors.shape[1])], vectors.reshape(-1), vectors.size
    yield from _packed("score", slate.scores)
    yield "ranking", [""], slate.ranking, len(slate.ranking)


def _packed(kind: str, columns: Mapping[str, AnyArray]) -> Iterator[tuple[str, Sequence[str], AnyArray, int]]:
    """Join columns of one length: a plan has hundreds, and each array on its own would cost microseconds."""
    if isinstance(columns, Columns):
        for names, matrix in zip(columns.layout.names, columns.matrices, strict=True):
            if names:
                yield kind, names, matrix, matrix.shape[1]
        return
    lengths = list(map(len, columns.values()))
    for rows in dict.fromkeys(lengths):
        chosen = [name for name, length in zip(columns, lengths, strict=True) if length == rows]
        yield kind, chosen, np.concatenate([columns[name] for name in chosen]), rows


class _Arrays:
    """Arrays on their way back into a block."""

    def __init__(self) -> None:
        self.scores: Scores = {}
        self.ranking = np.empty(0, np.float32)
        self._categories: dict[str, Any] = {}
        self._numbers: dict[str, Any] = {}
        self._offsets: dict[str, Any] = {}
        self._ages: dict[str, Any] = {}
        self._fields: dict[str, dict[str, Any]] = {}
        self._vectors: dict[str, Any] = {}

    def add(self, part: _Part, array: AnyArray) -> None:
        if part.kind == "field":
            self._fields.setdefault(part.names[0], {})[part.names[1]] = array
        elif part.kind == "vector":
            self._vectors[part.names[0]] = array.reshape(-1, int(part.names[1]))
        elif part.kind == "ranking":
            self.ranking = array
        else:
            targets = {
                "category": self._categories,
                "number": self._numbers,
                "offsets": self._offsets,
                "age": self._ages,
                "score": self.scores,
            }
            columns = zip(part.names, array.reshape(len(part.names), part.rows), strict=True)
            targets[part.kind].update(columns)

    def block(self, lsn: int) -> FeatureBlock:
        sequences = {
            name: Ragged(offsets, self._fields.get(name, {}), self._ages[name])
            for name, offsets in self._offsets.items()
        }
        return FeatureBlock(self._categories, self._numbers, sequences, lsn, self._vectors)

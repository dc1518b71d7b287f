"""The compiled feature plan: plain data that a bundle carries and every engine executes."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

Kind = Literal["category", "number", "sequence"]
Stage = Literal["request", "item", "pair"]
MISSING_KEY = 0
"""The 64-bit key of an absent category; a missing number is NaN."""


class Slot(msgspec.Struct, frozen=True):
    """One named value of a record or a request: a 64-bit key, or a float64's bits."""

    name: str
    type: str

    @property
    def is_category(self) -> bool:
        """Whether the slot holds a 64-bit key."""
        return self.type != "number"


class RecordType(msgspec.Struct, frozen=True):
    """A kind of record and the slots that it fills; a table's first slot is its entity."""

    name: str
    kind: Literal["exposure", "event", "table"]
    slots: list[int]


class Hop(msgspec.Struct, frozen=True, array_like=True):
    """A step from an entity's key to one of its attributes: table (record type) and slot."""

    table: int
    slot: int


class Path(msgspec.Struct, frozen=True):
    """A value reached from a record: a slot, then attributes of what the slot identifies."""

    slot: int
    hops: list[Hop] = []


class Test(msgspec.Struct, frozen=True):
    """A condition on a path; ``values`` are keys (as integers) or numbers."""

    path: Path
    comparison: Literal["==", "!=", "<", "<=", ">", ">=", "in"]
    keys: list[int] = []
    numbers: list[float] = []


class Feed(msgspec.Struct, frozen=True):
    """One record type that updates an aggregate, and where its key, value and fields stand."""

    type: int
    keys: list[Path]
    tests: list[Test] = []
    value: Path | None = None
    fields: list[Path] = []


class Aggregate(msgspec.Struct, frozen=True):
    """State of one key: ``tiles`` (windowed count and sum), ``total``, ``decayed``, ``last`` or ``sequence``.

    Times are microseconds. ``fingerprint`` names the aggregate's meaning apart from any plan's indices.
    """

    kind: Literal["tiles", "total", "decayed", "last", "sequence"]
    family: int
    feeds: list[Feed]
    fingerprint: str
    title: str
    window: int = 0
    tile: int = 0
    half_life: int = 0
    scale: int = 1
    length: int = 0
    fields: int = 0


class Family(msgspec.Struct, frozen=True):
    """A tuple of entities or attributes that aggregates are keyed by; empty for global ones."""

    name: str
    parts: list[str]


class Node(msgspec.Struct, frozen=True):
    """One operation of the read program; its inputs are earlier nodes.

    Operations: ``value`` (path), ``read`` (aggregate at the keys in ``inputs``: ``what`` is count, sum, mean,
    decayed, since), ``rate``, ``ratio``, ``difference``, ``log1p``, ``clip``, ``affine``, ``age``, ``cross``,
    ``hour``, ``weekday``, ``bucketise``, ``sequence`` (aggregate, keys), ``match`` (inputs: the sequence node,
    then the candidate's value; ``field`` is the sequence's field; ``what`` is count, fraction, since).
    ``numbers`` are the operation's constants; ``instants`` and ``offsets`` a time zone's transitions in
    microseconds.
    """

    op: str
    stage: Stage
    is_category: bool
    inputs: list[int] = []
    path: Path | None = None
    aggregate: int = -1
    what: str = ""
    field: int = -1
    numbers: list[float] = []
    instants: list[int] = []
    offsets: list[int] = []


class SequenceField(msgspec.Struct, frozen=True):
    """One value kept for each event of a sequence."""

    name: str
    is_category: bool
    vocabulary: str = ""


class Feature(msgspec.Struct, frozen=True):
    """A named output: what a model sees. Categories of one ``vocabulary`` share an embedding table."""

    name: str
    kind: Kind
    stage: Stage
    node: int
    vocabulary: str = ""
    length: int = 0
    fields: list[SequenceField] = []


class Fit(msgspec.Struct, frozen=True):
    """A node whose constants are fitted on the values of another node before the first sample."""

    node: int
    source: int
    method: Literal["moments", "quantiles"]
    quantiles: int = 0


class Plan(msgspec.Struct, frozen=True):
    """A project's features, compiled. Slots, types, nodes and aggregates are referred to by index.

    ``fits`` is empty once every transform has been fitted.
    """

    project: str
    slots: list[Slot]
    types: list[RecordType]
    families: list[Family]
    aggregates: list[Aggregate]
    nodes: list[Node]
    features: list[Feature]
    item_slot: int
    user_slot: int
    fits: list[Fit] = []
    fit_until: int | None = None

    @property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the plan's meaning, fitted constants included."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]

    def slot(self, name: str) -> int:
        """Return a slot's index by name; raises KeyError."""
        for index, slot in enumerate(self.slots):
            if slot.name == name:
                return index
        raise KeyError(name)

    def type_index(self, name: str) -> int:
        """Return a record type's index by name; raises KeyError."""
        for index, record_type in enumerate(self.types):
            if record_type.name == name:
                return index
        raise KeyError(name)

    def feature(self, name: str) -> Feature:
        """Return a feature by name; raises KeyError."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    def of_kind(self, kind: Kind) -> list[Feature]:
        """Return the features of one kind, in plan order."""
        return [feature for feature in self.features if feature.kind == kind]

    def to_json(self) -> bytes:
        """Return the plan as canonical JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(data: bytes) -> Plan:
        """Read a plan from JSON; raises ``msgspec.ValidationError`` on anything else."""
        return msgspec.json.decode(data, type=Plan)

"""The compiled feature plan: plain data that a bundle carries and every engine executes."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

Kind = Literal["category", "number", "sequence", "vector"]
Stage = Literal["request", "item", "pair"]
MISSING_KEY = 0
"""The 64-bit key of an absent category; a missing number is NaN."""
GIVEN_PREFIX = "given."
"""Begins the name of a record type that never occurs: what it would feed is what a request gives."""


class Slot(msgspec.Struct, frozen=True):
    """One named value of a record or a request: a 64-bit key, a float64's bits, or a vector.

    ``column`` is the record's column where it is not the slot's name. A vector of ``width`` numbers does not fit
    a slot: it travels beside the slots (``RecordBatch.vectors``), and its slot holds nothing.
    """

    name: str
    type: str
    column: str = ""
    width: int = 0

    @property
    def is_category(self) -> bool:
        """Whether the slot holds a 64-bit key."""
        return self.type not in ("number", "vector")


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
    """State of one key, which does not depend on the order in which events came (docs/design.md says how).

    ``tiles`` (windowed) and ``total`` count events and keep the ``parts`` of their values: ``sum``, ``squares``,
    ``minimum``, ``maximum``. ``decayed`` keeps a decaying count and, with the part ``sum``, a decaying sum. ``last``
    and ``first`` keep a time. ``sequence`` keeps the ``length`` latest events, and with ``distinct`` only the latest
    for each value of the first field. ``top`` counts the values of its one field, at most ``length`` of them.

    Times are microseconds. With ``ttl``, state is forgotten once so long has passed since its latest event.
    ``fingerprint`` names the aggregate's meaning apart from any plan's indices.
    """

    kind: Literal["tiles", "total", "decayed", "last", "first", "sequence", "top"]
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
    parts: list[Literal["sum", "squares", "minimum", "maximum"]] = []
    distinct: bool = False
    ttl: int = 0


class Family(msgspec.Struct, frozen=True):
    """A tuple of entities or attributes that aggregates are keyed by; empty for global ones."""

    name: str
    parts: list[str]


class Function(msgspec.Struct, frozen=True):
    """A user's function by import path (``module:name``), with the SHA-256 of its source as it was compiled."""

    path: str
    digest: str


class Node(msgspec.Struct, frozen=True):
    """One operation of the read program; its inputs are earlier nodes.

    Operations: ``value`` (path), ``read`` (aggregate at the keys in ``inputs``: ``what`` is count, sum, mean,
    std, min, max, or since for the kinds last and first), ``rate``, ``ratio``, ``difference``, ``log1p``, ``clip``,
    ``affine``, ``age``, ``cross``, ``hour``, ``weekday``, ``bucketise``, ``sequence`` (aggregate, keys), ``latest``
    (aggregate, keys: one ``field`` of a sequence's latest event), ``top`` (aggregate, keys: the ``length`` values
    counted most), ``match`` (inputs: the sequence or top node, then the candidate's value; ``field`` is the
    sequence's field; ``what`` is count, fraction, since), ``vector`` (path), ``function`` (the user's own, over its
    inputs' columns).
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
    length: int = 0
    numbers: list[float] = []
    instants: list[int] = []
    offsets: list[int] = []
    function: Function | None = None


class SequenceField(msgspec.Struct, frozen=True):
    """One value kept for each event of a sequence."""

    name: str
    is_category: bool
    vocabulary: str = ""


class Feature(msgspec.Struct, frozen=True):
    """A named output: what a model sees. Categories of one ``vocabulary`` share an embedding table.

    ``length`` is a sequence's longest, ``width`` a vector's number of values.
    """

    name: str
    kind: Kind
    stage: Stage
    node: int
    vocabulary: str = ""
    length: int = 0
    fields: list[SequenceField] = []
    width: int = 0


class Fit(msgspec.Struct, frozen=True):
    """A node whose constants are fitted on the values of another node before the first sample."""

    node: int
    source: int
    method: Literal["moments", "quantiles"]
    quantiles: int = 0


class Fixed(msgspec.Struct, frozen=True):
    """A context slot that serving fixes: a bias input, whose true value only training may see.

    ``key`` is the value of a category's slot, ``number`` that of a number's.
    """

    slot: int
    key: int = MISSING_KEY
    number: float | None = None


class Plan(msgspec.Struct, frozen=True):
    """A project's features, compiled. Slots, types, nodes and aggregates are referred to by index.

    ``fits`` is empty once every transform has been fitted. ``fixed`` are the bias inputs.
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
    fixed: list[Fixed] = []

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

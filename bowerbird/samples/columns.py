"""Ready-made feature columns: which columns of a table are labels, which are features, and what splits the rows."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from bowerbird.errors import InputError, NotFoundError

CategoryType = Literal["text", "integer", "flag"]
SPLIT_DATES = {"train": "2000-01-01", "validation": "2000-01-02", "test": "2000-01-03"}
"""The days that stand for official parts: sample folders name their parts by days, in time order."""
_ENTITIES = ("user", "item")
_TAKEN = ("age", "mask")


class LabelColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A label of 0 and 1. ``column`` is the label's own name where absent.

    ``given`` names another label that must have happened first. A null is an error unless ``may_be_null`` says that
    it means "not known yet": such rows teach other labels only.
    """

    column: str = ""
    given: str | None = None
    may_be_null: bool = False


class SequenceColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One value of each event of a sequence: a column of lists. Other fields' lists are as long, row by row."""

    kind: Literal["category", "number"]
    column: str
    type: CategoryType | None = None
    vocabulary: str = ""


class FeatureColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A feature. ``column`` is the feature's own name where absent.

    A category is text, integers or flags (``type``; where absent in Parquet the column's own, in CSV text); those
    of one ``vocabulary`` share an embedding table. A sequence has ``fields`` and optionally ``age`` (a column of
    seconds since each event); its latest ``length`` events are kept, and in CSV ``separator`` stands between them. A
    vector has ``width`` numbers. ``per`` says what has one value when a model serves: a request, or each of its
    candidates (where absent, a candidate, and of a sequence always the request).
    """

    kind: Literal["category", "number", "sequence", "vector"]
    column: str = ""
    per: Literal["request", "candidate"] | None = None
    type: CategoryType | None = None
    vocabulary: str = ""
    fields: dict[str, SequenceColumn] = {}
    age: str = ""
    length: int = 0
    order: Literal["oldest_first", "newest_first"] = "oldest_first"
    separator: str = ""
    width: int = 0


class ReadyColumns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of ready-made features.

    ``files`` are Parquet or CSV files (or patterns), split by exactly one of the columns ``time`` (an instant, or an
    integer in ``time_unit``), ``date`` (a day) and ``split`` (``train``, ``validation`` or ``test``); ``parts`` names
    files for these three instead. ``user`` groups rows for GAUC and intervals (without it each row stands alone),
    ``item`` is the candidate; ``weight`` multiplies a row's loss; ``id`` names a row.
    """

    labels: dict[str, LabelColumn]
    features: dict[str, FeatureColumn]
    files: list[str] = []
    parts: dict[Literal["train", "validation", "test"], list[str]] = {}
    user: str = ""
    user_type: CategoryType | None = None
    item: str = ""
    item_type: CategoryType | None = None
    time: str = ""
    time_unit: Literal["s", "ms", "us"] = "us"
    date: str = ""
    split: str = ""
    weight: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a declaration that no table fits."""
        _check_split(self)
        if not self.labels or not self.features:
            raise ValueError("it declares no label or no feature")
        earlier: set[str] = set()
        for name, label in self.labels.items():
            if label.given is not None and label.given not in earlier:
                raise ValueError(f"label {name!r} is given {label.given!r}, which no label before it is")
            earlier.add(name)
        for name, feature in self.features.items():
            if not name.replace("_", "a").isalnum():
                raise ValueError(f"{name!r} is not a feature's name (letters, digits and underscores)")
            _check_feature(name, feature)

    def type_of_entity(self, name: str) -> CategoryType | None:
        """Return the declared type of ``user`` or ``item``."""
        return self.user_type if name == _ENTITIES[0] else self.item_type


def _check_split(columns: ReadyColumns) -> None:
    ways = [name for name in ("time", "date", "split", "parts") if getattr(columns, name)]
    if len(ways) != 1:
        said = "none" if not ways else " and ".join(ways)
        raise ValueError(f"exactly one of time, date, split and parts says what splits the rows, but {said} is given")
    if bool(columns.files) == bool(columns.parts):
        raise ValueError("either files or parts names the files")
    if columns.parts and not {"train", "validation"} <= set(columns.parts):
        raise ValueError("parts names at least train and validation")


def _check_feature(name: str, feature: FeatureColumn) -> None:
    if feature.kind == "sequence":
        if not feature.fields or feature.length < 1:
            raise ValueError(f"sequence {name!r} needs fields and a length of 1 or more")
        if feature.column or feature.per == "candidate":
            raise ValueError(f"sequence {name!r} is the request's, and its fields have columns, not itself")
        for field in feature.fields:
            if field in _TAKEN or not field.replace("_", "a").isalnum():
                raise ValueError(f"{field!r} is not a field's name (letters, digits and underscores; not age or mask)")
        return
    if feature.fields or feature.length or feature.age or feature.separator:
        raise ValueError(f"{name!r} is a {feature.kind}: fields, length, age and separator are a sequence's")
    if feature.width and feature.kind != "vector":
        raise ValueError(f"{name!r} is a {feature.kind}: width is a vector's")
    if feature.kind != "category" and (feature.type is not None or feature.vocabulary):
        raise ValueError(f"{name!r} is a {feature.kind}: type and vocabulary are a category's")


def read_declaration(file: Path) -> ReadyColumns:
    """Read a declaration from TOML; raises NotFoundError, or InputError that says what is wrong in it."""
    if not file.is_file():
        raise NotFoundError(f"There is no {file}.", "Name a TOML file that says what the columns are.")
    try:
        return msgspec.convert(tomllib.loads(file.read_text()), ReadyColumns)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {error}.", "docs/how-to/columns.md shows a whole declaration.") from error

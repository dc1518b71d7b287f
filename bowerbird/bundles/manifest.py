"""What a bundle says of itself."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bowerbird.bundles.way_results import WayResult
from bowerbird.models.task import Task

FORMAT = 1
ModelKind = Literal["torch", "lightgbm", "blend"]
"""What a bundle holds: tables and a graph, boosters, or both to be averaged."""


class FileEntry(msgspec.Struct, frozen=True):
    """A file's SHA-256 (hexadecimal) and length in bytes."""

    sha256: str
    size: int


class Lineage(msgspec.Struct, frozen=True):
    """Where a version comes from: the run, its samples (and their manifest's SHA-256), plan and code."""

    run: str
    samples: str
    samples_sha256: str
    plan: str
    code: str


class GateResult(msgspec.Struct, frozen=True):
    """One gate: what was measured (null where undefined), what is allowed, and whether it passed."""

    name: str
    passed: bool
    measured: float | None
    allowed: str
    note: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """``manifest.json`` of a bundle; ``files`` lists every other file.

    ``model`` and ``options`` name the architecture and its configuration, ``embedding`` the tables'.
    ``forced`` says that it was published although a gate failed. ``ways`` say how else than by PyTorch in float32
    it may be served.
    """

    name: str
    version: int
    kind: ModelKind
    model: str
    plan_fingerprint: str
    tasks: list[Task]
    lineage: Lineage
    created: str
    options: dict[str, Any] = {}
    embedding: dict[str, Any] = {}
    gates: list[GateResult] = []
    forced: bool = False
    ways: list[WayResult] = []
    files: dict[str, FileEntry] = {}
    format: int = FORMAT

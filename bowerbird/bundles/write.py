"""Writing a bundle: the parts, their hashes, and one rename."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from bowerbird.bundles.arrays import pack_arrays, unpack_arrays
from bowerbird.bundles.bundle import (
    CALIBRATION,
    CODES,
    CONSTANTS,
    GOLDEN,
    MANIFEST,
    MANIFEST_HASH,
    METRICS,
    PLAN,
    ROWS,
    STAGED,
    STAGED_CONSTANTS,
    Bundle,
    booster_file,
    file_hash,
    read_bundle,
)
from bowerbird.bundles.calibrate import Calibrations, calibrations_to_json
from bowerbird.bundles.golden import GoldenRequest, golden_to_json
from bowerbird.bundles.manifest import FileEntry, Manifest
from bowerbird.compiler.capture import capture
from bowerbird.compiler.fingerprint import compiler_fingerprint
from bowerbird.compiler.lift import lift
from bowerbird.compiler.serial import pack_graph, pack_program, unpack_program
from bowerbird.compiler.staged import StagedProgram
from bowerbird.compiler.staging import stage_graph
from bowerbird.durable import new_folder
from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.served_collection import table_files, write_table
from bowerbird.embedding.served_table import RowFormat
from bowerbird.models.ranker import Ranker
from bowerbird.models.tree_columns import TreeColumns
from bowerbird.plan.functions import function_files
from bowerbird.plan.spec import Plan

_EXAMPLE_ROWS = 4

BundleFile: TypeAlias = bytes | Callable[[Path], None]
"""A file's content, or what writes it to a path: tables may be larger than memory should hold twice."""


@dataclass(frozen=True)
class BundleParts:
    """What every bundle holds beside its model."""

    plan: Plan
    calibrations: Calibrations
    metrics: dict[str, Any]
    golden: list[GoldenRequest]


def torch_files(collection: EmbeddingCollection, model: Ranker, rows: RowFormat = "fp32") -> dict[str, BundleFile]:
    """Return the files of a PyTorch model, its tables' rows in a format; InputError when it cannot be exported."""
    lifting = lift(capture(model, model.inputs.example(_EXAMPLE_ROWS)), model.inputs.stages)
    rows_graph, rows_constants = pack_graph(lifting.graph)
    staged, staged_constants = pack_program(stage_graph(lifting.graph, []).program, compiler_fingerprint())
    return {
        **{file: partial(write_table, collection, name, rows) for name, file in table_files(collection.plan).items()},
        ROWS: rows_graph,
        CONSTANTS: pack_arrays(rows_constants),
        STAGED: staged,
        STAGED_CONSTANTS: pack_arrays(staged_constants),
    }


def staged_program(files: Mapping[str, BundleFile]) -> StagedProgram:
    """Return the staged program of what ``torch_files`` gave, read back as a bundle's is."""
    packed, constants = files[STAGED], files[STAGED_CONSTANTS]
    assert isinstance(packed, bytes) and isinstance(constants, bytes)
    program = unpack_program(packed, unpack_arrays(constants), compiler_fingerprint())
    assert program is not None
    return program


def tree_files(columns: TreeColumns, boosters: Mapping[str, str]) -> dict[str, BundleFile]:
    """Return the files of LightGBM boosters, given as their text by task."""
    files: dict[str, BundleFile] = {booster_file(task): text.encode() for task, text in boosters.items()}
    return {CODES: pack_arrays(columns.export_arrays()), **files}


def write_bundle(target: Path, manifest: Manifest, parts: BundleParts, model_files: Mapping[str, BundleFile]) -> Bundle:
    """Write a bundle to ``target``, which must not exist, and return it read back and verified.

    ``manifest.files`` is filled here; the sources of the plan's functions are among them. Raises StorageError when the
    file system refuses.
    """
    files: dict[str, BundleFile] = {
        PLAN: parts.plan.to_json(),
        CALIBRATION: calibrations_to_json(parts.calibrations),
        METRICS: msgspec.json.format(msgspec.json.encode(parts.metrics)),
        GOLDEN: golden_to_json(parts.golden),
        **function_files(parts.plan),
        **model_files,
    }
    with new_folder(target) as folder:
        entries = {name: _write_file(folder / name, content) for name, content in files.items()}
        complete = msgspec.structs.replace(manifest, files=entries)
        text = msgspec.json.format(msgspec.json.encode(complete))
        (folder / MANIFEST).write_bytes(text)
        (folder / MANIFEST_HASH).write_text(hashlib.sha256(text).hexdigest() + "\n")
    return read_bundle(target)


def _write_file(path: Path, content: BundleFile) -> FileEntry:
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
        return FileEntry(hashlib.sha256(content).hexdigest(), len(content))
    content(path)
    return FileEntry(file_hash(path), path.stat().st_size)

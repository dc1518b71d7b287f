"""A version whose largest embedding table is filled up with made-up keys, in one of the formats of rows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from bench.common import WORK
from bowerbird.bundles.block_json import block_from_json
from bowerbird.bundles.bundle import Bundle, read_bundle
from bowerbird.bundles.golden import golden_request
from bowerbird.bundles.live_tables import tables_of, with_tables
from bowerbird.bundles.registry import Registry, VersionStage
from bowerbird.bundles.scorer import Scorer
from bowerbird.bundles.write import BundleFile, BundleParts, write_bundle
from bowerbird.declare.workspace import Workspace
from bowerbird.embedding.served_collection import ServedCollection, table_files
from bowerbird.embedding.served_table import RowFormat, ServedTable, write_served_table

MODEL = "kuairand"
Rows = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint64]


def live_bundle(workspace: Workspace) -> Bundle:
    """Return the live version's bundle."""
    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    live = registry.live(MODEL)
    assert live is not None
    return read_bundle(workspace.bundles_folder / live.path)


def tables_of_bundle(bundle: Bundle) -> ServedCollection:
    """Return a bundle's mapped tables."""
    tables = bundle.load_collection()
    assert isinstance(tables, ServedCollection), "publish the version again"
    return tables


def largest(bundle: Bundle) -> str:
    """Return the vocabulary with most keys."""
    tables = tables_of_bundle(bundle).tables
    return max(tables, key=lambda name: len(tables[name]))


def filled_up(bundle: Bundle, vocabulary: str, rows: int) -> tuple[Keys, Rows]:
    """Return a table's keys and rows, with made-up ones behind them: ``rows`` in all."""
    table = tables_of_bundle(bundle).tables[vocabulary]
    keys, places = table.file_keys()
    random = np.random.default_rng(0)
    whole = np.empty((rows, table.dimension), np.float32)
    whole[: len(keys) + 2] = table.take(np.concatenate([np.arange(2), places]))
    random.standard_normal(out=whole[len(keys) + 2 :], dtype=np.float32)
    made = np.arange(1, rows - len(keys) - 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.concatenate([keys, made]), whole


def publish_filled_up(workspace: Workspace, bundle: Bundle, vocabulary: str, table: Path) -> Bundle:
    """Publish a bundle again with a table's file in the place of its own, and make it live.

    Its golden answers are those of the new table: rows in fewer bits have others.
    """
    served = tables_of_bundle(bundle)
    others = ServedCollection(bundle.plan, {**served.tables, vocabulary: ServedTable.open(table)})
    model = bundle.load_model()
    assert tables_of(model) is not None
    scorer = Scorer(with_tables(model, others), bundle.calibrations)
    blocks = [block_from_json(request.block) for request in bundle.golden]
    golden = [golden_request(block, scorer.score(block)) for block in blocks]
    files: dict[str, BundleFile] = {
        name: partial(os.link, bundle.folder / name) for name in bundle.manifest.files if not name.endswith(".json")
    }
    files[table_files(bundle.plan)[vocabulary]] = partial(os.link, table)
    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    number = registry.next_version(MODEL)
    manifest = msgspec.structs.replace(bundle.manifest, version=number)
    parts = BundleParts(bundle.plan, bundle.calibrations, bundle.metrics, golden)
    written = write_bundle(workspace.bundles_folder / MODEL / str(number), manifest, parts, files)
    live = registry.live(MODEL)
    assert live is not None
    path, stage = f"{MODEL}/{number}", VersionStage.CANDIDATE
    registry.add(
        msgspec.structs.replace(live, version=number, path=path, digest=written.digest, stage=stage, promoted=None)
    )
    registry.promote(MODEL, number)
    return written


@dataclass(frozen=True)
class LargeVersion:
    """A live version with a large table, and that table's file."""

    bundle: Bundle
    file: Path


def large_versions(
    workspace: Workspace, rows: int, formats: list[RowFormat]
) -> Iterator[tuple[RowFormat, LargeVersion]]:
    """Yield a version for each format, the live one while it is worked with and gone afterwards."""
    bundle = live_bundle(workspace)
    vocabulary = largest(bundle)
    keys, vectors = filled_up(bundle, vocabulary, rows)
    file = WORK / f"large-{os.getpid()}.table"
    for format in formats:
        write_served_table(file, keys, vectors, format)
        large = publish_filled_up(workspace, bundle, vocabulary, file)
        try:
            yield format, LargeVersion(large, file)
        finally:
            _withdraw(workspace, large, bundle.manifest.version)
            file.unlink()


def _withdraw(workspace: Workspace, bundle: Bundle, before: int) -> None:
    """Take a version away again and make the one before it live."""
    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    registry.promote(bundle.manifest.name, before)
    shutil.rmtree(bundle.folder)

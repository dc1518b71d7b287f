"""A bundle: the immutable folder that is one version of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bowerbird.bundles.arrays import read_arrays
from bowerbird.bundles.calibrate import Calibrations, calibrations_from_json
from bowerbird.bundles.golden import TOLERANCE, GoldenRequest, check_golden, golden_from_json
from bowerbird.bundles.manifest import FORMAT, Manifest
from bowerbird.bundles.scorer import BlendedModel, LogitModel, Scorer, TreeModel, import_lightgbm
from bowerbird.bundles.staged_model import StagedModel, Way
from bowerbird.bundles.way_results import WayResult
from bowerbird.bundles.ways import PLAIN, TREES, way_named
from bowerbird.compiler.fingerprint import compiler_fingerprint
from bowerbird.compiler.serial import unpack_graph, unpack_program
from bowerbird.compiler.staged import StagedProgram
from bowerbird.compiler.staging import stage_graph
from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.feature_reader import FeatureReader
from bowerbird.embedding.served_collection import ServedCollection
from bowerbird.errors import CorruptionError, NotFoundError
from bowerbird.models.tree_columns import TreeColumns
from bowerbird.plan.functions import read_function_files
from bowerbird.plan.spec import Plan

MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"
PLAN = "plan.json"
TABLES = "tables.safetensors"
TABLE_FOLDER = "tables/"
ROWS = "rows.msgpack"
CONSTANTS = "rows.safetensors"
STAGED = "staged.msgpack"
STAGED_CONSTANTS = "staged.safetensors"
CODES = "codes.safetensors"
CALIBRATION = "calibration.json"
METRICS = "metrics.json"
GOLDEN = "golden.json"

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Bundle:
    """A bundle's small parts, read; its tables and graph are loaded on demand.

    ``digest`` is the SHA-256 of the manifest and so of everything.
    """

    folder: Path
    digest: str
    manifest: Manifest
    plan: Plan
    calibrations: Calibrations
    metrics: dict[str, Any]
    golden: list[GoldenRequest]

    def load_collection(self) -> FeatureReader:
        """Return the embedding tables, mapped; bundles of before have them in one file, which is read."""
        config = msgspec.convert(self.manifest.embedding, EmbeddingCollection.Config)
        if TABLES not in self.manifest.files:
            return ServedCollection.open(self.plan, config, self.folder)
        collection = config.build(self.plan)
        collection.import_arrays(read_arrays(self.folder / TABLES))
        return collection.eval().requires_grad_(False)

    @property
    def structure(self) -> str:
        """The SHA-256 of what the version computes, whatever its weights: it costs what others of this structure do."""
        return self.manifest.files[STAGED].sha256 if STAGED in self.manifest.files else self.digest

    @property
    def plain_way(self) -> str:
        """The way that needs no gate of its own."""
        return TREES if self.manifest.kind == "lightgbm" else PLAIN

    @property
    def ways(self) -> list[str]:
        """The ways by which the version may be served, the plain one first."""
        return [self.plain_way, *(way.name for way in self.manifest.ways if way.passed)]

    def way_result(self, name: str) -> WayResult:
        """Return what the gates measured of a way that may be used."""
        found = (way for way in self.manifest.ways if way.name == name)
        return next(found, WayResult(name, True, []))

    def way(self, name: str, cache: Path | None = None) -> Way:
        """Return a way by its name, with what the gates found that it has to add to logits; see ``Way.cache``."""
        return replace(way_named(name), shifts=self.way_result(name).shifts, cache=cache)

    def load_model(self, way: str = "", cache: Path | None = None) -> LogitModel:
        """Return the model, to be run by a way of ``ways`` (without a name: by the plain one).

        What takes long to prepare is kept in the folder ``cache`` by content, and found there again.
        Raises MissingExtraError for LightGBM's without the extra, InputError for a way that this host or the model
        does not have.
        """
        if self.manifest.kind == "lightgbm":
            return self._load_trees()
        network = self._load_network(self.way(way or PLAIN, cache))
        return network if self.manifest.kind == "torch" else BlendedModel(network, self._load_trees())

    def load_scorer(self, way: str = "", cache: Path | None = None) -> Scorer:
        """Return the model with its calibrations; see ``load_model``."""
        return Scorer(self.load_model(way, cache), self.calibrations)

    def _load_network(self, way: Way) -> StagedModel:
        """Return the staged program; CorruptionError for a bundle of before there was one."""
        if ROWS not in self.manifest.files:
            raise CorruptionError(f"{self.folder} holds no row graph ({ROWS}).", "Publish the run again.")
        return StagedModel(self.load_collection(), self._load_program(), way)

    def _load_program(self) -> StagedProgram:
        """Return the staged program as it was published, or staged here where another compiler has published it."""
        if STAGED in self.manifest.files:
            packed, constants = (self.folder / STAGED).read_bytes(), read_arrays(self.folder / STAGED_CONSTANTS)
            program = unpack_program(packed, constants, compiler_fingerprint())
            if program is not None:
                return program
        graph = unpack_graph((self.folder / ROWS).read_bytes(), read_arrays(self.folder / CONSTANTS))
        return stage_graph(graph, []).program

    def _load_trees(self) -> TreeModel:
        lightgbm = import_lightgbm()
        columns = TreeColumns(self.plan, minimum_count=1)
        columns.import_arrays(read_arrays(self.folder / CODES))
        boosters = {
            task.name: lightgbm.Booster(model_str=(self.folder / booster_file(task.name)).read_text())
            for task in self.manifest.tasks
        }
        return TreeModel(columns, boosters)


def booster_file(task: str) -> str:
    """Return the file name of a task's LightGBM booster."""
    return f"booster.{task}.txt"


def read_bundle(folder: str | Path, verify_tables: bool = True) -> Bundle:
    """Read a bundle; every file's length and SHA-256 are compared with the manifest.

    Without ``verify_tables`` embedding tables are compared by length alone, for a start that does not read them:
    ``verify_files`` does the rest later. The sources of the plan's functions become known, so that engines of the plan
    find them.
    Raises NotFoundError without a bundle there and CorruptionError, naming the file, when a byte differs.
    """
    root = Path(folder)
    if not (root / MANIFEST).is_file():
        raise NotFoundError(f"{root} holds no bundle.", "See `bowerbird models list`.")
    data = (root / MANIFEST).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != _recorded_hash(root):
        raise _changed(root / MANIFEST)
    manifest = _parse(root / MANIFEST, lambda text: msgspec.json.decode(text, type=Manifest))
    if manifest.format != FORMAT:
        raise CorruptionError(f"{root} has bundle format {manifest.format}, not {FORMAT}.", "Publish it again.")
    verify_files(root, manifest, verify_tables)
    plan = _parse(root / PLAN, Plan.from_json)
    read_function_files(plan, root)
    return Bundle(
        folder=root,
        digest=digest,
        manifest=manifest,
        plan=plan,
        calibrations=_parse(root / CALIBRATION, calibrations_from_json),
        metrics=_parse(root / METRICS, lambda text: msgspec.json.decode(text, type=dict[str, Any])),
        golden=_parse(root / GOLDEN, golden_from_json),
    )


def verify_golden(bundle: Bundle, scorer: Scorer | None = None, way: str = "") -> Scorer:
    """Return a scorer that answered the bundle's golden requests right; raises CorruptionError otherwise."""
    checked = scorer or bundle.load_scorer(way)
    check_golden(bundle.golden, checked, score_tolerance(bundle, way or bundle.plain_way))
    return checked


def score_tolerance(bundle: Bundle, way: str) -> float:
    """Return how far a way's probability may be from another host's, or from that of eager PyTorch.

    That is 1e-5 for a way in float32, and for one in fewer bits twice the largest difference from eager PyTorch that
    its gates saw: two hosts may be on either side of it.
    """
    result = bundle.way_result(way)
    return TOLERANCE if result.exact else max(TOLERANCE, 2.0 * result.largest)


def _recorded_hash(root: Path) -> str:
    file = root / MANIFEST_HASH
    return file.read_text(errors="replace").strip() if file.is_file() else ""


def verify_files(root: Path, manifest: Manifest, tables: bool = True) -> None:
    """Compare a bundle's files with its manifest, tables by length alone unless ``tables``; raises CorruptionError."""
    for name, entry in manifest.files.items():
        path = root / name
        if not path.is_file() or path.stat().st_size != entry.size:
            raise _changed(path)
        if (tables or not name.startswith(TABLE_FOLDER)) and file_hash(path) != entry.sha256:
            raise _changed(path)


def file_hash(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _changed(path: Path) -> CorruptionError:
    return CorruptionError(f"{path} is not what was published.", "Restore the file, or publish the version again.")


def _parse(path: Path, reader: Callable[[bytes], _Value]) -> _Value:
    try:
        return reader(path.read_bytes())
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError) as error:
        raise CorruptionError(f"{path} cannot be read: {error}", "Restore it, or publish the version again.") from error

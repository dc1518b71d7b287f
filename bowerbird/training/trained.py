"""A trained model as a run keeps it and as a bundle takes it, of either kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import torch

from bowerbird.bundles.arrays import AnyArray, pack_arrays, read_arrays
from bowerbird.bundles.manifest import ModelKind
from bowerbird.bundles.scorer import BlendedModel, LogitModel, Logits, TreeModel, import_lightgbm
from bowerbird.bundles.staged_model import StagedModel
from bowerbird.bundles.write import BundleFile, staged_program, torch_files, tree_files
from bowerbird.durable import write_atomically
from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.embedding.served_table import RowFormat
from bowerbird.errors import InputError
from bowerbird.models.own import read_model_files
from bowerbird.models.tree_columns import TreeColumns
from bowerbird.models.zoo import model_config
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.functions import read_function_files
from bowerbird.plan.spec import Plan
from bowerbird.training.config import trainer_config
from bowerbird.training.losses import TaskWeighting
from bowerbird.training.network import Network
from bowerbird.training.run_record import PLAN_FILE, RunSettings, read_run

TABLES_FILE = "tables.safetensors"
DENSE_FILE = "dense.safetensors"
TREES_FILE = "trees.json"
CODES_FILE = "codes.safetensors"
LIGHTGBM = "lightgbm"


class Trained(Protocol):
    """A trained model."""

    @property
    def kind(self) -> ModelKind:
        """Which loader a bundle needs."""
        ...

    def logits(self, block: FeatureBlock) -> dict[str, Logits]:
        """Return logits by task, as computed where it was trained."""
        ...

    def save(self, folder: Path) -> None:
        """Write the run's files."""

    def round_rows(self, format: RowFormat) -> None:
        """Make it the model whose embedding rows a bundle keeps in ``format``; trees have none."""

    def bundle_files(self) -> dict[str, BundleFile]:
        """Return a bundle's files."""
        ...

    def as_published(self, files: Mapping[str, BundleFile]) -> LogitModel:
        """Return the model that a server makes of ``bundle_files``."""
        ...


class TrainedNetwork:
    """Tables and a dense module."""

    kind: ModelKind = "torch"

    def __init__(self, network: Network) -> None:
        self.network = network.eval()
        self._rows: RowFormat = "fp32"

    def logits(self, block: FeatureBlock) -> dict[str, Logits]:
        """Return eager PyTorch's logits by task."""
        with torch.inference_mode():
            outputs = self.network.model(self.network.collection(block))
        return {task: values.numpy() for task, values in outputs.items()}

    def save(self, folder: Path) -> None:
        """Write tables and dense weights."""
        write_atomically(folder / TABLES_FILE, pack_arrays(self.network.collection.export_arrays()))
        state = {name: value.detach().numpy() for name, value in self.network.model.state_dict().items()}
        write_atomically(folder / DENSE_FILE, pack_arrays(state))

    def round_rows(self, format: RowFormat) -> None:
        """Round the tables' rows."""
        self._rows = format
        self.network.collection.round_rows(format)

    def bundle_files(self) -> dict[str, BundleFile]:
        """Return tables, graph and weights."""
        return torch_files(self.network.collection, self.network.model, self._rows)

    def as_published(self, files: Mapping[str, BundleFile]) -> LogitModel:
        """Return the staged program behind the same tables."""
        return StagedModel(self.network.collection, staged_program(files))


class TrainedTrees:
    """LightGBM boosters, kept as text."""

    kind: ModelKind = "lightgbm"

    def __init__(self, columns: TreeColumns, boosters: Mapping[str, str]) -> None:
        self.columns = columns
        self.boosters = boosters
        lightgbm = import_lightgbm()
        models = {task: lightgbm.Booster(model_str=text) for task, text in boosters.items()}
        self._model = TreeModel(columns, models)

    def logits(self, block: FeatureBlock) -> dict[str, Logits]:
        """Return raw scores by task."""
        return self._model.logits(block)

    def save(self, folder: Path) -> None:
        """Write codes and boosters."""
        write_atomically(folder / CODES_FILE, pack_arrays(self.columns.export_arrays()))
        write_atomically(folder / TREES_FILE, msgspec.json.encode(dict(self.boosters)))

    def round_rows(self, format: RowFormat) -> None:
        """Trees have no rows."""

    def bundle_files(self) -> dict[str, BundleFile]:
        """Return codes and boosters."""
        return tree_files(self.columns, self.boosters)

    def as_published(self, files: Mapping[str, BundleFile]) -> LogitModel:
        """Return the boosters read back."""
        return TrainedTrees(self.columns, self.boosters)._model


class TrainedBlend:
    """A network and trees, averaged."""

    kind: ModelKind = "blend"

    def __init__(self, network: TrainedNetwork, trees: TrainedTrees) -> None:
        self.network = network
        self.trees = trees
        self._model = BlendedModel(network, trees)

    def logits(self, block: FeatureBlock) -> dict[str, Logits]:
        """Return mean logits by task."""
        return self._model.logits(block)

    def save(self, folder: Path) -> None:
        """Write the files of both."""
        self.network.save(folder)
        self.trees.save(folder)

    def round_rows(self, format: RowFormat) -> None:
        """Round the network's rows."""
        self.network.round_rows(format)

    def bundle_files(self) -> dict[str, BundleFile]:
        """Return the files of both."""
        return self.network.bundle_files() | self.trees.bundle_files()

    def as_published(self, files: Mapping[str, BundleFile]) -> LogitModel:
        """Return the staged program averaged with the boosters read back."""
        return BlendedModel(self.network.as_published(files), self.trees.as_published(files))


def build_network(plan: Plan, settings: RunSettings) -> Network:
    """Return a freshly initialised network of a run's settings."""
    config = msgspec.convert(settings.embedding, EmbeddingCollection.Config)
    collection = config.build(plan)
    model = model_config(settings.model, settings.options).build(collection.inputs, tuple(settings.tasks))
    trainer = trainer_config(settings.trainer)
    names = [task.name for task in settings.tasks]
    return Network(collection, model, TaskWeighting(names, trainer.task_weights, trainer.uncertainty_weights))


def load_run_network(folder: Path) -> Network:
    """Read the network of a finished run's folder; raises InputError for a run of trees alone."""
    record = read_run(folder)
    plan = Plan.from_json((folder / PLAN_FILE).read_bytes())
    read_function_files(plan, folder)
    trained = load_trained(folder, plan, record.settings)
    match trained:
        case TrainedNetwork():
            return trained.network
        case TrainedBlend():
            return trained.network.network
    raise InputError(f"Run {record.id} trained no network.", "Choose a run of another model than LightGBM.")


def load_trained(folder: Path, plan: Plan, settings: RunSettings) -> Trained:
    """Read a finished run's model."""
    if settings.model == LIGHTGBM:
        return _load_trees(folder, plan)
    read_model_files(settings.model, folder)
    network = build_network(plan, settings)
    load_weights(network, folder)
    trained = TrainedNetwork(network)
    return TrainedBlend(trained, _load_trees(folder, plan)) if settings.trees else trained


def _load_trees(folder: Path, plan: Plan) -> TrainedTrees:
    columns = TreeColumns(plan, minimum_count=1)
    columns.import_arrays(read_arrays(folder / CODES_FILE))
    boosters = msgspec.json.decode((folder / TREES_FILE).read_bytes(), type=dict[str, str])
    return TrainedTrees(columns, boosters)


def load_weights(network: Network, folder: Path) -> None:
    """Set a network's tables and dense weights from a run's files."""
    network.collection.import_arrays(read_arrays(folder / TABLES_FILE))
    arrays: dict[str, AnyArray] = read_arrays(folder / DENSE_FILE)
    network.model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})

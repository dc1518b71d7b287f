"""Requests for serving benchmarks, and for peers the same with ready-made features: an ONNX file, arrays by user."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from bowerbird.bundles.calibrate import Calibrator, calibrations_from_json
from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace
from bowerbird.log.reader import LogReader
from bowerbird.plan.spec import Plan
from bowerbird.serving.slate import Slate
from bowerbird.serving.slates import iterate_slates
from bowerbird.training.run_record import CALIBRATION_FILE, PLAN_FILE, read_run
from bowerbird.training.trained import TrainedNetwork, load_trained

SCENE = "feed"


@dataclass(frozen=True)
class Case:
    """Bodies by user, and the slates that our server answered them with."""

    candidates: int
    bodies: dict[int, bytes]
    slates: dict[int, Slate]
    calibrators: dict[str, Calibrator]

    def largest_difference(self, user: int, logits: dict[str, list[float]]) -> float:
        """Return how far calibrated logits of a peer lie from our scores at most."""
        slate = self.slates[user]
        differences = [
            calibrator(np.array(logits[task], np.float32), slate.features.categories) - slate.scores[task]
            for task, calibrator in self.calibrators.items()
        ]
        return float(np.abs(differences).max())


class _Scored(nn.Module):
    """The dense module over tensors in order; what a request has once is expanded inside."""

    def __init__(self, module: nn.Module, features: dict[str, Tensor], rows: int) -> None:
        super().__init__()
        self.module = module
        self.names = list(features)
        self.single = {name for name, value in features.items() if value.shape[0] != rows}
        self.first = next(name for name in features if name not in self.single)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.names, values, strict=True))
        rows = given[self.first].shape[0]
        given = {
            name: value.expand(rows, *value.shape[1:]) if name in self.single else value
            for name, value in given.items()
        }
        return tuple(self.module(given).values())


def make_bodies(workspace: Workspace, sizes: Sequence[int], count: int) -> dict[int, dict[int, bytes]]:
    """Return, by number of candidates and by user, ``count`` bodies each; no user stands twice."""
    exposures = LogReader(workspace).records("exposure")
    users, videos = (exposures.column(name).unique().to_pylist() for name in ("user", "video"))
    chance = random.Random(0)
    chosen = iter(chance.sample(users, count * len(sizes)))
    return {
        size: {
            user: msgspec.json.encode({"user": user, "context": {"tab": 1}, "candidates": chance.sample(videos, size)})
            for user in islice(chosen, count)
        }
        for size in sizes
    }


def make_cases(
    workspace: Workspace, run: Path, bodies: dict[int, dict[int, bytes]], address: str, folder: Path
) -> list[Case]:
    """Ask our server everything once and write what peers need into ``folder``."""
    asked: dict[str, int] = {}
    with Client(address) as client:
        for user, body in ((user, body) for each in bodies.values() for user, body in each.items()):
            wanted = msgspec.json.decode(body)
            asked[client.score(SCENE, user, wanted["candidates"], context=wanted["context"]).slate_id] = user
    slates = {asked[each.slate_id]: each for each in iterate_slates(workspace.slates_folder) if each.slate_id in asked}
    plan = Plan.from_json((run / PLAN_FILE).read_bytes())
    trained = load_trained(run, plan, read_run(run).settings)
    assert isinstance(trained, TrainedNetwork)
    collection = trained.network.collection
    for user, slate in slates.items():
        with torch.no_grad():
            features = collection.lookup_once(collection.encode(slate.features))
        np.savez(folder / f"{user}.npz", **{name: value.numpy() for name, value in features.items()})
    _export(trained.network.model, features, len(slate.candidates), folder / "model.onnx")
    calibrations = calibrations_from_json((run / CALIBRATION_FILE).read_bytes())
    calibrators = {task: Calibrator(each) for task, each in calibrations.items()}
    return [Case(size, each, {user: slates[user] for user in each}, calibrators) for size, each in bodies.items()]


def _export(module: nn.Module, features: dict[str, Tensor], rows: int, file: Path) -> None:
    scored = _Scored(module.eval(), features, rows)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tasks = list(module({name: value.expand(rows, *value.shape[1:]) for name, value in features.items()}))
        torch.onnx.export(
            scored, tuple(features.values()), str(file), input_names=list(features),
            output_names=[f"logits.{task}" for task in tasks],
            dynamic_axes={name: {0: "rows"} for name in features if name not in scored.single}, dynamo=False,
        )  # fmt: skip

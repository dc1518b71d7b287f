"""A tiny project on disk with a log and published versions: what server tests serve."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bowerbird.bundles.calibrate import Identity, Platt, calibrate
from bowerbird.bundles.golden import golden_request
from bowerbird.bundles.manifest import Lineage, Manifest
from bowerbird.bundles.registry import Registry, VersionRecord, VersionStage
from bowerbird.bundles.way_results import LEAST_OF_A_KIND, Change, WayResult, WayTask, is_exact, judged
from bowerbird.bundles.write import BundleParts, torch_files, write_bundle
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.embedding.collection import EmbeddingCollection
from bowerbird.kernels.keys import key_text, keys_of_integers
from bowerbird.log.reader import LogReader
from bowerbird.log.sources.ingest import ingest
from bowerbird.models.task import Task
from bowerbird.models.zoo import model_config
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import build_engine

USERS, ITEMS = 20, 60
NOW = 1_700_000_000_000_000
DECLARATIONS = """
from bowerbird import declare as bb

user = bb.Entity("user", bb.INTEGER)
item = bb.Entity("item", bb.TEXT)
users = bb.Table("users", user, {"city": bb.TEXT})
items = bb.Table("items", item, {"genre": bb.TEXT, "price": bb.NUMBER})
exposure = bb.Exposure("exposure", [user, item], {"page": bb.INTEGER, "speed": bb.NUMBER})
click = bb.Event("click", [user, item])
order = bb.Event("order", [user, item], {"amount": bb.NUMBER})
history = bb.sequence(click, by=user, length=5, fields=[item, items["genre"]])
features = {
    "user": bb.category(user),
    "item": bb.category(item),
    "city": bb.category(users["city"]),
    "genre": bb.category(items["genre"]),
    "page": bb.category(exposure["page"]),
    "speed": bb.number(exposure["speed"]),
    "price": bb.number(items["price"]),
    "hour": bb.hour("UTC"),
    "clicks_1h": bb.count(click, by=user, window="1h"),
    "item_rate": bb.rate(click, exposure, by=item, window="1d", prior=0.1, strength=5.0),
    "spent": bb.total(order, order["amount"], by=[user, items["genre"]]),
    "since_click": bb.since(click, by=user),
    "history": history,
    "genre_matches": bb.match(history, items["genre"]),
}
clicked = bb.Label("click", click, within="1h")
ordered = bb.Label("order", order, within="1d", given=clicked)
project = bb.Project(
    name="tiny", exposure=exposure, user=user, item=item, events=[click, order], tables=[users, items],
    features=features, labels=[clicked, ordered],
    scenes=[bb.Scene(
        "home", user, item, [clicked, ordered],
        recall=[bb.CoVisitation(click, window="3650d"), bb.Popular(click, window="3650d", count=40)],
        seen=[order], weights={"click": 1.0, "order": 2.0},
        diversity=bb.Diversity(items["genre"], 3), slate_size=6,
    )],
    sources=[
        bb.Source("exposures", "exposures.jsonl", exposure, bb.Timestamp("time", "us"), id="id"),
        bb.Source("clicks", "clicks.jsonl", click, bb.Timestamp("time", "us"), id="id"),
        bb.Source("orders", "orders.jsonl", order, bb.Timestamp("time", "us"), id="id"),
        bb.Source("users", "users.jsonl", users, key=["user"]),
        bb.Source("items", "items.jsonl", items, key=["item"]),
    ],
)
"""


def make_workspace(folder: Path, rows: int = 400) -> Workspace:
    """Return a new workspace with an ingested log."""
    (folder / "raw").mkdir(parents=True)
    (folder / "project.py").write_text(DECLARATIONS)
    (folder / "bowerbird.toml").write_text("")
    _write_raw(folder / "raw", rows)
    workspace = load_workspace(folder)
    ingest(workspace, progress=False)
    return workspace


def _write_raw(raw: Path, rows: int) -> None:
    chance = random.Random(0)
    files: dict[str, list[dict[str, object]]] = {"exposures": [], "clicks": [], "orders": []}
    for row in range(rows):
        time = NOW - (rows - row) * 60_000_000
        base = {"user": chance.randrange(USERS), "item": f"i{chance.randrange(ITEMS)}", "time": time}
        files["exposures"].append({**base, "id": f"x{row}", "page": chance.randrange(3), "speed": chance.random()})
        if chance.random() < 0.4:
            files["clicks"].append({**base, "id": f"c{row}", "time": time + 1_000_000})
        if chance.random() < 0.05:
            files["orders"].append({**base, "id": f"o{row}", "time": time + 2_000_000, "amount": 2.5})
    files["users"] = [{"user": number, "city": f"c{number % 3}"} for number in range(USERS)]
    files["items"] = [{"item": f"i{n}", "genre": f"g{n % 4}", "price": n / 10} for n in range(ITEMS)]
    for name, records in files.items():
        (raw / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def publish(
    workspace: Workspace, version: int, name: str = "din", slope: float = 1.0, ways: Sequence[str] = ()
) -> Path:
    """Write an untrained version and return its folder; ``slope`` makes versions answer differently.

    ``ways`` are those that its gates are said to allow.
    """
    torch.manual_seed(version)
    plan = compile_plan(workspace.project)
    config = model_config(name)
    collection = EmbeddingCollection.Config(dimension=config.dimension, minimum_count=1, initial_scale=0.3).build(plan)
    encoder, engine = Encoder(plan), build_engine(plan)
    for batch in LogReader(workspace).batches(plan, encoder):
        engine.apply(batch.records)
    known = encoder.encode_items([f"i{number}" for number in range(ITEMS)])
    ids = {
        "item": known,
        "user": keys_of_integers(np.arange(USERS)),
        "users.city": np.array([key_text(f"c{n}") for n in range(3)], np.uint64),
        "items.genre": np.array([key_text(f"g{n}") for n in range(4)], np.uint64),
    }
    collection.admit({name: (keys, np.full(len(keys), 9, np.int64)) for name, keys in ids.items()})
    tasks = (Task("click"), Task("order", given="click"))
    model = config.build(collection.inputs, tasks).eval()
    calibrations = {"click": Platt(slope, 0.0), "order": Identity()}
    block = engine.read(NOW, encoder.encode_request(3, {"page": 1}), known[:5])
    with torch.inference_mode():
        scores = {
            task: calibrate(calibrations[task], logits.numpy()) for task, logits in model(collection(block)).items()
        }
    golden = [golden_request(block, scores)]
    folder = workspace.bundles_folder / name / str(version)
    manifest = Manifest(
        name, version, "torch", name, plan.fingerprint, list(tasks), Lineage("r", "s", "0", plan.fingerprint, "c"),
        "2024-01-01T00:00:00Z", embedding={"dimension": config.dimension, "minimum_count": 1},
        ways=[allowed(way) for way in ways],
    )  # fmt: skip
    bundle = write_bundle(folder, manifest, BundleParts(plan, calibrations, {}, golden), torch_files(collection, model))
    _registry(workspace).add(
        VersionRecord(
            name,
            version,
            VersionStage.CANDIDATE,
            f"{name}/{version}",
            bundle.digest,
            "torch",
            manifest.lineage,
            {},
            manifest.created,
        )
    )
    return folder


def allowed(way: str) -> WayResult:
    """Return a result of gates that allow a way."""
    none = Change(0.0, 0.0, 0.0)
    task = WayTask("click", none, none, 1.0, 0.0 if is_exact(way) else 0.02, LEAST_OF_A_KIND, LEAST_OF_A_KIND)
    return judged(way, [task])


def make_live(workspace: Workspace, version: int, name: str = "din") -> None:
    """Make a written version the live one."""
    _registry(workspace).promote(name, version)


def _registry(workspace: Workspace) -> Registry:
    return Registry(workspace.registry_url, workspace.bundles_folder)

"""From a log with vectors, a bias and users' functions to scores: the same values in samples and served."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bowerbird import _native
from bowerbird.bundles.bundle import read_bundle
from bowerbird.errors import CorruptionError, InputError
from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.log.reader import LogReader
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import build_engine
from bowerbird.samples.build import build_samples
from bowerbird.samples.replay import advance
from bowerbird.serving.given import GivenFeatures
from bowerbird.training.batches.dataset import SampleFolder, SampleRows
from bowerbird.training.publishing.publish import PublishRequest, publish
from bowerbird.training.run import TrainRequest, train_model
from tests.training.own_inputs import FUNCTIONS, ITEMS, START, make_workspace, vector_of

if not hasattr(_native, "State"):
    pytest.skip("the native extension is older than vectors", allow_module_level=True)

SMALL = {"hidden": [32], "dimension": 8, "crosses": 1, "rank": None}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace with samples of its log."""
    workspace = make_workspace(tmp_path_factory.mktemp("own") / "shop")
    build_samples(workspace)
    return workspace


@pytest.fixture(scope="module")
def samples(made: Any) -> SampleFolder:
    return SampleFolder(made.samples_folder / "default")


@pytest.fixture(scope="module")
def bundle(made: Any, samples: SampleFolder) -> Any:
    """A small DCNv2 of the samples."""
    trainer = {"batch_size": 64, "epochs": 3}
    result = train_model(
        TrainRequest(
            samples=samples.folder, runs_folder=made.runs_folder, model="dcnv2", options=SMALL, trainer=trainer
        )
    )
    published = publish(
        PublishRequest(
            run=result.folder,
            samples_folder=made.samples_folder,
            bundles_folder=made.bundles_folder,
            registry_url=made.registry_url,
            name="home",
            force=True,
        )
    )
    return published.bundle


def rows_of(samples: SampleFolder) -> list[SampleRows]:
    return list(samples.read("2000-01-01", "2100-01-01"))


def test_samples_hold_each_item_s_vector_as_it_was(samples: SampleFolder) -> None:
    known = {key_text(f"i{number}"): number for number in range(ITEMS)}
    half = START + 3 * 86_400_000_000 // 2
    for part in rows_of(samples):
        vectors = part.block.vectors["embedding"]
        for row, (item, time) in enumerate(zip(part.item.tolist(), part.time.tolist(), strict=True)):
            expected = vector_of(known[item], int(time > half - 1_000_000))
            if expected is None:
                assert np.isnan(vectors[row]).all()
            else:
                np.testing.assert_array_equal(vectors[row], np.array(expected, np.float32))


def test_samples_hold_the_true_position_and_functions_of_their_row(samples: SampleFolder) -> None:
    positions: set[int] = set()
    for part in rows_of(samples):
        positions |= set(part.block.categories["position"].tolist())
        price = part.block.numbers["price"]
        bands = np.where(price > 5, np.uint64(key_text("dear")), np.uint64(key_text("cheap")))
        np.testing.assert_array_equal(part.block.categories["band"], bands)
        bargain = part.block.numbers["bargain"]
        assert ((bargain == -1.0) == np.isnan(price)).all()
        assert len(np.unique(bargain)) > 0.8 * len(part)
    assert positions == {key_integer(position) for position in range(1, 6)}
    assert not any(name.startswith("#") for name in part.block.numbers)


def test_what_is_served_equals_the_samples_except_for_the_fixed_position(made: Any, samples: SampleFolder) -> None:
    reader = LogReader(made)
    exposures = reader.exposures().sort_by([("_read_lsn", "ascending"), ("_lsn", "ascending")]).to_pylist()
    parts = rows_of(samples)
    encoder, engine = Encoder(samples.plan), build_engine(samples.plan)
    flat = {
        kind: {name: np.concatenate([getattr(part.block, kind)[name] for part in parts]) for name in columns}
        for kind, columns in (
            ("numbers", ["price", "bargain", "clicks"]),
            ("categories", ["band", "mood"]),
            ("vectors", ["embedding"]),
        )
    }
    for row in range(0, len(exposures), 9):
        exposure = exposures[row]
        advance(reader, encoder, engine, last=exposure["_read_lsn"])
        context = {"position": exposure["position"], "budget": exposure["budget"]}
        request = encoder.encode_request(exposure["user"], context)
        items = encoder.encode_items([exposure["item"], "i0"])
        block = engine.read(exposure["_read_time"], request, items)
        for kind, columns in flat.items():
            for name, values in columns.items():
                np.testing.assert_array_equal(getattr(block, kind)[name][0], values[row], err_msg=name)
        assert block.categories["position"].tolist() == [key_integer(1)]
        assert len(block.categories["mood"]) == 1 and len(block.vectors["embedding"]) == 2


def test_the_bundle_ships_the_functions_and_serves_without_the_workspace_s(made: Any, bundle: Any) -> None:
    assert (bundle.folder / "functions" / "own.prices.py").read_text() == FUNCTIONS
    assert "functions/own.prices.py" in bundle.manifest.files
    items = [f"i{number}" for number in range(ITEMS)]
    asked = {"user": 3, "time": START + 4 * 86_400_000_000, "context": {"budget": 5.0}, "items": items}
    here = _score_elsewhere(made.folder, bundle.folder, asked)
    assert len(set(here["scores"])) > ITEMS / 2
    assert here["bargain"][6] == 1.5
    (made.folder / "own" / "prices.py").write_text(FUNCTIONS.replace("STEP = 2.0", "STEP = 4.0"))
    assert _score_elsewhere(made.folder, bundle.folder, asked) == here


def _score_elsewhere(workspace: Path, bundle: Path, asked: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.training.score_elsewhere", str(bundle), str(workspace), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_given_vector_moves_the_score(bundle: Any) -> None:
    encoder, engine = Encoder(bundle.plan), build_engine(bundle.plan)
    block = engine.read(START, encoder.encode_request(1, {"budget": 1.0}), encoder.encode_items(["a", "b"]))
    given = GivenFeatures(bundle.plan)
    scorer = bundle.load_scorer()
    laid = given.apply(block, {}, {1: {"embedding": [3.0, 0.0, 0.0, 0.0]}}, 2)
    scores = scorer.score(laid)["click"]
    assert scores[0] == pytest.approx(scorer.score(block)["click"][0], abs=1e-6)
    assert scores[1] != pytest.approx(scores[0], abs=1e-6)
    with pytest.raises(InputError, match="a list of 4 numbers"):
        given.apply(block, {"embedding": [1.0]}, {}, 2)


def test_a_cut_off_source_in_the_bundle_is_found(bundle: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle.folder, copy)
    (copy / "functions" / "own.prices.py").write_text("def bargain(): ...")
    with pytest.raises(CorruptionError, match=r"own\.prices\.py is not what was published"):
        read_bundle(copy)

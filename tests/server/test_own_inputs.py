"""Vectors, a bias and users' functions over HTTP: live rows, given values, slates and their parity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bowerbird.client import Client
from bowerbird.errors import InputError
from bowerbird.kernels.keys import key_integer
from bowerbird.monitoring.coverage import CoverageCounter
from bowerbird.monitoring.parity import check_parity
from bowerbird.samples.build import build_samples
from bowerbird.serving.slates import iterate_slates
from bowerbird.training.publishing.publish import PublishRequest, publish
from bowerbird.training.run import TrainRequest, train_model
from tests.server.process import ServerProcess
from tests.training.own_inputs import FUNCTIONS, make_workspace

ITEMS = ["i1", "i2", "i4"]
ASKED = {"budget": 4.0, "position": 5}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory):
    """A workspace whose live version was trained before its functions changed."""
    made = make_workspace(tmp_path_factory.mktemp("own") / "shop")
    build_samples(made)
    result = train_model(
        TrainRequest(
            samples=made.samples_folder / "default", runs_folder=made.runs_folder, model="dcnv2",
            options={"hidden": [16], "dimension": 4}, trainer={"batch_size": 64, "epochs": 2},
        )
    )  # fmt: skip
    publish(
        PublishRequest(
            run=result.folder, samples_folder=made.samples_folder, bundles_folder=made.bundles_folder,
            registry_url=made.registry_url, name="home", force=True, promote=True,
        )
    )  # fmt: skip
    (Path(made.folder) / "own" / "prices.py").write_text(FUNCTIONS.replace("STEP = 2.0", "STEP = 4.0"))
    return made


def scores(client: Client, candidates=ITEMS, **more) -> list[float]:
    return client.score("home", 3, candidates, context=ASKED, **more).scores["click"]


def test_live_vectors_given_vectors_and_functions_hold_parity(workspace):
    with ServerProcess(workspace) as server, server.client() as client:
        before = scores(client)
        assert scores(client, features={"embedding": [2.0, 0, 0, 0]}) != before
        moved = scores(client, ["i1", {"id": "i2", "features": {"embedding": [9.0, 0, 0, 0]}}, "i4"])
        assert moved[::2] == pytest.approx(before[::2], abs=1e-6) and moved[1] != before[1]
        with pytest.raises(InputError, match="a list of 4 numbers"):
            scores(client, features={"embedding": [1.0]})
        outcomes = client.send_events([{"type": "items", "item": "i4", "embedding": [0.5, 1, 2, 3], "price": 2.0}])
        assert outcomes.accepted == 1
        refused = client.send_events([{"type": "items", "item": "i4", "embedding": [0.5]}])
        assert refused.rejected == 1
        after = scores(client)
        assert after[:2] == pytest.approx(before[:2], abs=1e-6) and after[2] != before[2]
        shown = client.entity("item", "i4").features["embedding"]
        assert shown == [0.5, 1.0, 2.0, 3.0]
    slates = list(iterate_slates(workspace.slates_folder))
    last = slates[-1].features
    assert last.categories["position"].tolist() == [key_integer(1)]
    np.testing.assert_array_equal(last.vectors["embedding"][2], np.array([0.5, 1, 2, 3], np.float32))
    assert last.numbers["bargain"][2] == 1.0
    report = check_parity(workspace, slates)
    assert report.holds and report.unknown == 0, report.examples
    counter = CoverageCounter()
    counter.add(last)
    assert {each.feature for each in counter.report()} >= {"embedding", "bargain", "band", "position"}

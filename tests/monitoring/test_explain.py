"""Explanations: two ways to every value, the right events by hand, and a lie that is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError, NotFoundError
from bowerbird.log.reader import LogReader
from bowerbird.log.slate_id import new_slate_id
from bowerbird.monitoring import explain as explaining
from bowerbird.monitoring.explain import explain
from bowerbird.monitoring.explanation import NodeExplanation, StateExplanation
from bowerbird.samples.build import build_samples
from tests.monitoring import more_log
from tests.samples.shop_log import make_workspace, random_rows
from tests.samples.test_build import FITTED, read


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("shop") / "shop", random_rows(3))


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return more_log.make_workspace(tmp_path_factory.mktemp("more") / "more")


def exposure_ids(workspace: Workspace) -> list[str]:
    ids: list[str] = LogReader(workspace).exposures().column("_id").to_pylist()
    return ids


def state_of(node: NodeExplanation) -> StateExplanation:
    assert node.state is not None
    return node.state


def test_every_value_follows_from_its_events(shop: Workspace, more: Workspace) -> None:
    for workspace in (shop, more):
        for identity in exposure_ids(workspace)[3::60]:
            found = explain(workspace, identity)
            assert [each.feature for each in found.features if not each.agrees] == []
            assert len(found.features) == len(workspace.project.features)


def test_values_are_those_of_the_samples(shop: Workspace) -> None:
    build_samples(shop)
    row = read(shop.samples_folder / "default").to_pylist()[150]
    found = {each.feature: each.value for each in explain(shop, row["exposure_id"]).features}
    for name in ("rate", "clicks_1h", "since_click", "decayed", "price_log", "colour_share"):
        expected = row[f"f.{name}"]
        assert found[name] == (None if np.isnan(expected) else expected)
    assert [entry["age"] for entry in found["clicked"]] == row["f.clicked.age"]


def test_the_events_behind_a_count(shop: Workspace) -> None:
    """Compared with the log, filtered by hand."""
    exposures = LogReader(shop).exposures().to_pylist()
    exposure = exposures[200]
    clicks = [row for row in LogReader(shop).records("click").to_pylist() if row["user"] == exposure["user"]]
    (feature,) = explain(shop, exposure["_id"], "clicks_1h", limit=1_000).features
    state = state_of(feature.tree)
    tile = 300_000_000
    last = exposure["_read_time"] // tile
    known = [row for row in clicks if row["_lsn"] < exposure["_read_lsn"]]
    counted = [row for row in known if last - 12 < row["_time"] // tile <= last]
    assert sorted(event.lsn for event in state.events) == [row["_lsn"] for row in counted]
    assert {event.id for event in state.events} == {row["_id"] for row in counted}
    assert state.counted == len(counted) == feature.value == sum(row.count for row in state.tiles)
    assert state.keys == {"user": exposure["user"]}
    assert state.left_out.get("outside the window", 0) == len(known) - len(counted)
    after = sum(state.left_out.get(each, 0) for each in state.left_out if "read" in each)
    assert after == len(clicks) - len(known)


def test_filters_and_attributes(shop: Workspace) -> None:
    exposure = LogReader(shop).exposures().to_pylist()[-1]
    (feature,) = explain(shop, exposure["_id"], "big_orders", limit=1_000).features
    state = state_of(feature.tree)
    orders = [row for row in LogReader(shop).records("order").to_pylist() if row["user"] == exposure["user"]]
    known = sum(row["_lsn"] < exposure["_read_lsn"] for row in orders)
    assert state.counted + state.left_out.get("filtered", 0) == known > 0
    assert all(event.values["amount"] >= 1.0 for event in state.events)


def test_a_derived_value_shows_its_parts(shop: Workspace) -> None:
    (feature,) = explain(shop, exposure_ids(shop)[150], "rate").features
    clicks, shown = feature.tree.inputs
    expected = (clicks.value + 0.1 * 5.0) / (shown.value + 5.0)
    assert feature.value == np.float32(expected)
    (match,) = explain(shop, exposure_ids(shop)[150], "colour_share").features
    sequence, candidate = match.tree.inputs
    colours = [entry["items.colour"] for entry in sequence.value]
    assert match.value == pytest.approx(colours.count(candidate.value) / len(colours) if candidate.value else 0.0)


def test_a_list_is_cut_and_never_the_count(shop: Workspace) -> None:
    (feature,) = explain(shop, exposure_ids(shop)[-1], "clicks_global", limit=2).features
    state = state_of(feature.tree)
    assert len(state.events) == 2 < state.counted == feature.value
    assert state.keys == {}


def test_an_engine_that_lies_is_found(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = exposure_ids(shop)[150]
    assert explain(shop, identity, "clicks_global").agrees
    honest = explaining.build_engine

    class Lying:
        def __init__(self, *arguments: object, **options: object) -> None:
            self._engine = honest(*arguments, **options)  # type: ignore[arg-type]

        def __getattr__(self, name: str) -> object:
            return getattr(self._engine, name)

        def replay(self, records: object, reads: object) -> object:
            block = self._engine.replay(records, reads)  # type: ignore[arg-type]
            for values in block.numbers.values():
                values[0] = np.nextafter(values[0], np.float32(np.inf))
            return block

    monkeypatch.setattr(explaining, "build_engine", Lying)
    found = explain(shop, identity, "clicks_global")
    assert not found.agrees
    assert not found.features[0].tree.agrees
    assert found.features[0].value != found.features[0].from_events


def test_retractions_and_late_events_are_counted_as_such(more: Workspace) -> None:
    reasons: set[str] = set()
    retracted = 0
    for identity in exposure_ids(more)[::25]:
        for name in ("clicks_7d", "session", "decayed_count"):
            (feature,) = explain(more, identity, name, limit=1_000).features
            state = state_of(feature.tree)
            reasons |= set(state.left_out)
            retracted += sum(event.retraction for event in state.events)
            if name == "clicks_7d":
                assert feature.value == sum(-1 if event.retraction else 1 for event in state.events)
    assert retracted > 0
    assert {"not known yet at the read, though it had happened", "forgotten", "taken back"} <= reasons


def test_fitted_plans_come_from_the_samples(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "fitted", random_rows(1), project=FITTED)
    identity = exposure_ids(workspace)[-1]
    with pytest.raises(InputError, match="not fitted"):
        explain(workspace, identity, "clicks_bucket")
    build_samples(workspace)
    (feature,) = explain(workspace, identity, "clicks_bucket").features
    assert feature.agrees and feature.value in range(4)


def test_what_is_not_there_is_told(shop: Workspace) -> None:
    with pytest.raises(NotFoundError, match="no exposure 'nobody'"):
        explain(shop, "nobody")
    with pytest.raises(NotFoundError, match="Did you mean 'clicks_1h'"):
        explain(shop, exposure_ids(shop)[0], "click_1h")
    with pytest.raises(NotFoundError, match="No slate"):
        explain(shop, "nothing", item="i1")
    with pytest.raises(NotFoundError, match="has probably been removed: `slates_size`"):
        explain(shop, new_slate_id(lsn=1, time=1), item="i1")


def test_an_explanation_is_json(more: Workspace) -> None:
    import msgspec

    found = explain(more, exposure_ids(more)[40])
    document = json.loads(msgspec.json.encode(found))
    embedding = next(each for each in document["features"] if each["feature"] == "embedding")
    assert document["agrees"] and embedding["kind"] == "vector"

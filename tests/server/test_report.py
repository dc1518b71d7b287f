"""The loop's judgement: slates joined with what was shown and done; a changed value or score is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bowerbird.declare.workspace import Workspace
from bowerbird.monitoring.coverage import CoverageCounter
from bowerbird.monitoring.parity import check_parity
from bowerbird.monitoring.report import describe_report, make_report
from bowerbird.plan.block import FeatureBlock
from bowerbird.samples.build import build_samples
from bowerbird.serving.slate import Slate
from bowerbird.serving.slates import iterate_slates
from tests.server.process import ServerProcess

HOUR = 3_600_000_000


@pytest.fixture
def served(workspace: Workspace) -> Workspace:
    """A workspace in which 40 slates were shown; every second one's first item was clicked."""
    with ServerProcess(workspace) as server, server.client() as client:
        for turn in range(40):
            user = turn % 10
            slate = client.score("home", user, ["i1", "i2", f"i{turn}"], context={"page": 1})
            events: list[dict[str, object]] = [
                {
                    "type": "exposure",
                    "id": f"live{turn}",
                    "user": user,
                    "item": "i1",
                    "page": 1,
                    "slate_id": slate.slate_id,
                }
            ]
            if turn % 2:
                events.append(
                    {"type": "click", "id": f"click{turn}", "user": user, "item": "i1", "slate_id": slate.slate_id}
                )
            receipt = client.send_events(events)
            assert receipt.accepted == len(events)
        stray = {"type": "exposure", "id": "stray", "user": 1, "item": "i9", "page": 1, "slate_id": slate.slate_id}
        client.send_event(stray)
    return workspace


def test_report_joins_what_was_served_shown_and_done(served: Workspace) -> None:
    report = make_report(served)
    assert report.live.slates == 40
    assert report.live.exposures == 41
    assert report.live.unmatched == 1, "the stray exposure's item was in no slate"
    assert report.live.older == 0
    half = make_report(served, since=list(iterate_slates(served.slates_folder))[20].time).live
    assert (half.slates, half.exposures, half.unmatched, half.older) == (20, 41, 1, 20)
    clicks = next(row for row in report.live.versions if row.label == "click")
    assert (clicks.model, clicks.version, clicks.exposures) == ("din", 1, 40)
    assert clicks.immature == 40, "their windows are open: not one is called a negative"
    assert report.parity.holds and report.parity.slates == 40
    text = describe_report(report)
    assert "Parity of 40 slates: holds" in text and "40 not yet mature" in text


def test_live_exposures_become_samples_with_what_was_served(served: Workspace) -> None:
    build_samples(served)
    slates = {slate.slate_id: slate for slate in iterate_slates(served.slates_folder)}
    folder = served.samples_folder / "default"
    import pyarrow.parquet as pq

    rows = [
        row for file in folder.glob("date=*/*.parquet") for row in pq.read_table(file, partitioning=None).to_pylist()
    ]
    live = {row["exposure_id"]: row for row in rows if row["exposure_id"].startswith("live")}
    assert len(live) == 40
    compared = 0
    for slate in slates.values():
        for row in live.values():
            if (row["read_lsn"], row["time"]) != (slate.lsn, slate.time):
                continue
            place = slate.candidates.index("i1")
            assert row["f.item_rate"] == slate.features.numbers["item_rate"][place]
            assert row["f.clicks_1h"] == slate.features.numbers["clicks_1h"][0]
            compared += 1
    assert compared == 40


def _tampered(slate: Slate) -> Slate:
    numbers = dict(slate.features.numbers)
    numbers["item_rate"] = numbers["item_rate"].copy()
    numbers["item_rate"][1] = np.nextafter(numbers["item_rate"][1], np.float32(9))
    return replace(slate, features=replace(slate.features, numbers=numbers))


def test_one_bit_of_one_feature_is_found(served: Workspace) -> None:
    slates = list(iterate_slates(served.slates_folder))
    slates[7] = _tampered(slates[7])
    parity = check_parity(served, slates)
    assert not parity.holds
    assert parity.values - parity.equal_values == 1
    (example,) = parity.examples
    assert (example.slate_id, example.feature, example.candidate) == (slates[7].slate_id, "item_rate", 1)


def test_a_changed_score_is_found(served: Workspace) -> None:
    slates = list(iterate_slates(served.slates_folder))
    slates[3] = replace(slates[3], scores={task: score + np.float32(2e-5) for task, score in slates[3].scores.items()})
    parity = check_parity(served, slates)
    assert not parity.holds
    assert parity.values == parity.equal_values
    assert parity.scores - parity.scores_within_tolerance == 6
    assert parity.largest_score_difference == pytest.approx(2e-5, rel=0.1)


def test_a_version_that_is_gone_is_counted_not_hidden(served: Workspace) -> None:
    slates = [replace(slate, version=99) for slate in iterate_slates(served.slates_folder)]
    parity = check_parity(served, slates)
    assert (parity.unknown, parity.slates) == (40, 0)


def test_coverage_counts_what_was_missing() -> None:
    counter = CoverageCounter()
    numbers = np.array([1.0, np.nan, 3.0, np.nan], dtype=np.float32)
    counter.add(FeatureBlock({"c": np.array([0, 5], np.uint64)}, {"n": numbers}, {}))
    number, category = sorted(counter.report(), key=lambda each: each.feature == "c")
    assert (number.present, number.mean, number.values) == (0.5, 2.0, 4)
    assert (category.present, category.mean) == (0.5, None)

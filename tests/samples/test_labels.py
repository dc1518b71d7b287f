"""What was taken back: no label, and no sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bowerbird import declare as bb
from bowerbird.log.live.write_ahead import open_wal
from bowerbird.log.reader import LogReader
from bowerbird.log.rows.validate import EventValidator
from bowerbird.samples.labels import join_labels, latest_arrival
from tests import shop
from tests.samples.shop_log import PROJECT, make_workspace, random_rows

FAR = 2**62


def take_back(workspace: Any, type_name: str, row: dict[str, Any]) -> None:
    event = {name: value for name, value in row.items() if not name.startswith("_") and value is not None}
    event |= {"type": type_name, "id": row["_id"], "time": row["_time"], "retracts": True}
    with open_wal(workspace) as log:
        log.append([EventValidator(workspace.project).validate(event, row["_time"])])
        log.sync()


def positives(workspace: Any, label: str) -> dict[str, int]:
    reader = LogReader(workspace)
    exposures = reader.exposures()
    outcome = join_labels(workspace.project, reader, exposures, FAR)[label]
    return dict(zip(exposures.column("_id").to_pylist(), outcome.tolist(), strict=True))


def test_a_click_taken_back_is_no_label_and_an_exposure_taken_back_no_sample(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, random_rows(2))
    label = next(each.name for each in workspace.project.labels if each.event == shop.click)
    before = positives(workspace, label)
    clicks = LogReader(workspace).records("click").to_pylist()
    clicked = next(row for row in clicks if before.get(row["_id"].removesuffix("#click")) == 1)
    exposure = clicked["_id"].removesuffix("#click")
    take_back(workspace, "click", clicked)
    after = positives(workspace, label)
    assert after == before | {exposure: 0}
    shown = LogReader(workspace).records("exposure").to_pylist()
    take_back(workspace, "exposure", next(row for row in shown if row["_id"] == exposure))
    final = positives(workspace, label)
    assert set(final) == set(after) - {exposure}


def test_a_label_waits_for_the_slowest_source_and_the_declared_lateness() -> None:
    click = bb.Event("click", [shop.user, shop.item], delay="2m", lateness="10m")
    slow = bb.Source("slow", "x", shop.exposure, actions=[bb.Action(click, "clicked")], delay="1h")
    quick = bb.Source("quick", "x", click, delay="1m")
    project = replace(PROJECT, events=[click], sources=[slow, quick])
    assert latest_arrival(project, click) == 70 * 60_000_000
    assert latest_arrival(replace(project, sources=[quick]), click) == 12 * 60_000_000

"""Samples: no leak, no dependence on file order, labels as declared, weights that undo down-sampling."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bowerbird import declare as bb
from bowerbird.errors import CorruptionError, InputError, NotFoundError
from bowerbird.plan.spec import Plan
from bowerbird.samples.build import build_samples
from bowerbird.samples.manifest import MANIFEST_FILE, read_manifest, read_plan
from bowerbird.samples.report import describe
from tests import shop
from tests.samples.shop_log import PROJECT, START, Row, make_workspace, random_rows

FITTED = replace(
    PROJECT,
    features={
        **PROJECT.features,
        "price_standard": bb.number(shop.items["price"]).standardise(),
        "clicks_bucket": bb.count(shop.click, by=shop.item).bucketise(quantiles=4),
    },
    fit_until="2023-11-14T22:40:00+00:00",
)


def read(folder: Path) -> pa.Table:
    files = sorted(folder.glob("date=*/*.parquet"))
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]).sort_by("exposure_id")


def features(table: pa.Table) -> pa.Table:
    return table.select(["exposure_id", *(name for name in table.column_names if name.startswith("f."))])


def same(left: pa.Table, right: pa.Table) -> bool:
    """Equality with NaN equal to NaN."""
    return left.column_names == right.column_names and all(
        str(left.column(name).to_pylist()) == str(right.column(name).to_pylist())
        for name in left.column_names
    )


def test_file_order_changes_nothing(tmp_path: Path) -> None:
    rows = random_rows(1)
    shuffled = {name: random.Random(5).sample(part, len(part)) for name, part in rows.items()}
    one = make_workspace(tmp_path / "one", rows)
    many = make_workspace(tmp_path / "many", shuffled, files=3)
    build_samples(one)
    build_samples(many)
    assert same(read(one.samples_folder / "default"), read(many.samples_folder / "default"))


@pytest.mark.parametrize("seed", range(3))
def test_later_records_change_no_feature(tmp_path: Path, seed: int) -> None:
    """Raw rows that became available at or after an exposure are deleted; its features stay the same."""
    rows = random_rows(seed)
    whole = make_workspace(tmp_path / "whole", rows, project=FITTED)
    build_samples(whole)
    samples = features(read(whole.samples_folder / "default"))
    cuts = sorted(
        random.Random(seed).sample([int(r["t"]) for r in rows["shown"] if r["t"] > START + 2_600_000], 4)
    )  # type: ignore[arg-type, operator]
    for cut in cuts:
        kept = make_workspace(tmp_path / f"cut{cut}", _before(rows, cut), project=FITTED)
        build_samples(kept)
        again = features(read(kept.samples_folder / "default"))
        exposed = [i for i in again.column("exposure_id").to_pylist() if i.endswith(f"|{cut}")]
        assert exposed
        wanted = pa.array(exposed)
        assert same(*(t.filter(pc.is_in(t.column("exposure_id"), wanted)) for t in (samples, again)))


def _before(rows: dict[str, list[Row]], cut: int) -> dict[str, list[Row]]:
    """Return what was available before ``cut``, and the exposures at it with nothing that came of them."""
    items = [row for row in rows["items"] if row["t"] < cut]  # type: ignore[operator]
    shown = []
    for row in rows["shown"]:
        at = int(row["t"])  # type: ignore[call-overload]
        if at > cut:
            continue
        clicked = row["clicked"] and at + row["click_after"] < cut  # type: ignore[operator]
        ordered = row["ordered"] and at + row["order_after"] < cut  # type: ignore[operator]
        shown.append(row | {"clicked": bool(clicked), "ordered": bool(ordered)})
    return {"items": items, "users": rows["users"], "shown": shown}


def test_labels_follow_their_windows(tmp_path: Path) -> None:
    hour = 3_600_000
    base = {
        "user": 1,
        "item": "a",
        "page": 0,
        "position": 0.0,
        "amount": 1.0,
        "ordered": False,
        "order_after": 0,
    }
    shown: list[Row] = [
        base | {"t": START, "clicked": True, "click_after": hour},
        base | {"t": START, "user": 2, "clicked": True, "click_after": hour + 1},
        base | {"t": START, "user": 3, "clicked": False, "click_after": 0},
        base | {"t": START, "user": 4, "clicked": True, "click_after": 5_000},
        base | {"t": START + 4_000, "user": 4, "clicked": False, "click_after": 0},
        base | {"t": START + 3 * hour, "user": 5, "clicked": False, "click_after": 0},
        base | {"t": START + 5 * hour // 2, "user": 6, "clicked": True, "click_after": 1000},
    ]
    rows = random_rows(0)
    workspace = make_workspace(tmp_path, {**rows, "shown": shown})
    manifest = build_samples(workspace)
    table = read(workspace.samples_folder / "default")
    clicks = dict(
        zip(table.column("exposure_id").to_pylist(), table.column("label.click").to_pylist(), strict=True)
    )
    assert clicks[f"1|a|{START}"] == 1, "exactly at the window's end"
    assert clicks[f"2|a|{START}"] == 0, "one millisecond late"
    assert clicks[f"3|a|{START}"] == 0
    assert clicks[f"4|a|{START}"] == 0, "the later exposure of the same item gets the click"
    assert clicks[f"4|a|{START + 4_000}"] == 1
    assert clicks[f"5|a|{START + 3 * hour}"] is None, "its window has not closed: unknown, not negative"
    assert clicks[f"6|a|{START + 5 * hour // 2}"] is None
    (click, order) = manifest.labels
    assert (click.mature, click.positives, click.immature) == (5, 2, 2)
    assert order.immature == 7 and order.given == "click"
    assert "2 not yet mature" in describe(manifest)


def positives(table: pa.Table) -> int:
    click, order = (np.array(table.column(f"label.{name}").to_pylist()) == 1 for name in ("click", "order"))
    return int((click | order).sum())


def test_down_sampling_keeps_positives_and_the_expected_count(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, random_rows(3, exposures=3000))
    build_samples(workspace, "all")
    manifest = build_samples(workspace, "some", negative_rate=0.25)
    everything, some = (read(workspace.samples_folder / name) for name in ("all", "some"))
    assert positives(some) == positives(everything)
    assert manifest.exposures == everything.num_rows and manifest.rows == some.num_rows < everything.num_rows
    weights = some.column("weight").to_numpy()
    assert set(weights.tolist()) == {1.0, 4.0}
    assert weights.sum() == pytest.approx(everything.num_rows, rel=0.1)
    assert set(some.column("exposure_id").to_pylist()) <= set(everything.column("exposure_id").to_pylist())


def test_fitting_on_events_needs_a_declared_range(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, random_rows(1), project=replace(FITTED, fit_until=None))
    with pytest.raises(InputError, match=r"clicks_bucket.*fit_until"):
        build_samples(workspace)


def test_attributes_are_fitted_on_what_precedes_the_first_exposure(tmp_path: Path) -> None:
    only = {"joined": bb.number(shop.users["joined"]).standardise()}
    workspace = make_workspace(tmp_path, random_rows(1), project=replace(PROJECT, features=only))
    build_samples(workspace)
    plan: Plan = read_plan(workspace.samples_folder / "default")
    joined = 100.0 + np.arange(10)
    fitted = plan.nodes[plan.feature("joined").node].numbers
    assert fitted == pytest.approx([joined.mean(), joined.std()], rel=1e-6)


def test_errors_say_what_and_remedy(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, {**random_rows(1), "shown": random_rows(1)["shown"][:1]})
    with pytest.raises(InputError, match="negative rate of 0"):
        build_samples(workspace, negative_rate=0.0)
    with pytest.raises(InputError, match="Widen --since"):
        build_samples(workspace, since=4_000_000_000_000_000)
    with pytest.raises(NotFoundError, match="bowerbird samples"):
        read_manifest(workspace.samples_folder / "nothing")
    build_samples(workspace)
    (workspace.samples_folder / "default" / MANIFEST_FILE).write_text('{"name": ')
    with pytest.raises(CorruptionError, match="truncated"):
        read_manifest(workspace.samples_folder / "default")

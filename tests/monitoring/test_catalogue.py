"""The catalogue: figures that NumPy gives too, costs, users, and what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bowerbird.declare.workspace import Settings, Workspace, load_workspace
from bowerbird.errors import InputError, NotFoundError
from bowerbird.log.reader import LogReader
from bowerbird.monitoring.catalogue import make_catalogue
from bowerbird.monitoring.feature_cost import measure_costs, read_costs, write_costs
from bowerbird.monitoring.restrict import feature_fingerprint, features_only, slots_only
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import build_engine
from bowerbird.samples.build import build_samples
from bowerbird.samples.replay import reads_of_exposures, replay
from tests import shop, shop_more
from tests.monitoring import more_log
from tests.samples.shop_log import make_workspace, random_rows
from tests.samples.test_build import read
from tests.server import tiny


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = make_workspace(tmp_path_factory.mktemp("catalogue") / "shop", random_rows(2))
    build_samples(made)
    return made


def test_moments_are_those_of_the_samples(workspace: Workspace) -> None:
    rows = read(workspace.samples_folder / "default")
    entries = {entry.name: entry for entry in make_catalogue(workspace).features}
    prices = rows.column("f.price_log").to_numpy().astype(np.float64)
    known = prices[~np.isnan(prices)]
    found = entries["price_log"].moments
    assert found is not None and found.number is not None
    assert found.coverage == pytest.approx(len(known) / len(prices)) and found.coverage < 1
    assert found.number.mean == pytest.approx(known.mean())
    assert found.number.std == pytest.approx(known.std())
    assert found.number.quantiles == pytest.approx(np.quantile(known, [0.01, 0.5, 0.99]).tolist())
    lengths = [len(ages) for ages in rows.column("f.clicked.age").to_pylist()]
    sequence = entries["clicked"].moments
    assert sequence is not None and sequence.sequence is not None
    assert sequence.sequence.mean_length == pytest.approx(np.mean(lengths))
    assert sequence.coverage == pytest.approx(np.mean([length > 0 for length in lengths]))


def test_the_most_frequent_category_has_its_name(workspace: Workspace) -> None:
    rows = LogReader(workspace).exposures().column("page").value_counts().to_pylist()
    most = max(rows, key=lambda row: row["counts"])
    entries = {entry.name: entry for entry in make_catalogue(workspace).features}
    page = entries["page"].moments
    assert page is not None and page.category is not None
    assert page.category.share == pytest.approx(most["counts"] / sum(row["counts"] for row in rows))
    assert page.category.most_frequent == str(most["values"])
    brand = entries["brand"].moments
    assert brand is not None and brand.category is not None and brand.category.most_frequent.startswith("b")


def test_one_day_and_one_feature(workspace: Workspace) -> None:
    catalogue = make_catalogue(workspace, "rate", day="2023-11-14")
    assert [entry.name for entry in catalogue.features] == ["rate"]
    assert 0 < catalogue.rows <= 300
    assert "click by item, last 1d" in catalogue.features[0].description
    with pytest.raises(NotFoundError, match="It has 2023-11-14 to 2023-11-14"):
        make_catalogue(workspace, day="2020-01-01")
    with pytest.raises(NotFoundError, match="Did you mean 'rate'"):
        make_catalogue(workspace, "rates")


def test_vectors_have_a_coverage(tmp_path: Path) -> None:
    made = more_log.make_workspace(tmp_path / "more")
    build_samples(made)
    entries = {entry.name: entry for entry in make_catalogue(made).features}
    taste = entries["taste"].moments
    assert taste is not None and 0.5 < taste.coverage < 1.0, "one user of five has no row"


def test_before_anything_exists(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "project.py").write_text(tiny.DECLARATIONS)
    catalogue = make_catalogue(load_workspace(folder))
    assert len(catalogue.features) == 14
    assert [note.split()[0:2] for note in catalogue.missing] == [["No", "samples"], ["State", "and"], ["No", "version"]]
    assert not (folder / "data").exists(), "looking leaves no trace"


def test_costs_are_measured_and_kept(workspace: Workspace) -> None:
    plan = compile_plan(workspace.project)
    assert make_catalogue(workspace, "rate").features[0].cost is None
    steps: list[tuple[int, int]] = []
    costs = measure_costs(workspace, plan, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1]
    assert costs.features.keys() == {feature.name for feature in plan.features}
    assert all(cost.event_us >= 0 and cost.read_us >= 0 for cost in costs.features.values())
    assert costs.whole.event_us > 0
    write_costs(workspace, costs)
    assert read_costs(workspace) == costs
    entry = make_catalogue(workspace, "clicks_1h").features[0]
    assert entry.cost == costs.features["clicks_1h"]
    (state,) = entry.states
    assert state.family is not None and 0 < state.family.keys <= 10 and state.family.bytes > 0


def test_costs_need_a_log(tmp_path: Path) -> None:
    made = Workspace(tmp_path, shop.project, Settings())
    with pytest.raises(InputError, match="log is empty"):
        measure_costs(made, compile_plan(shop.project))


def test_versions_that_use_a_feature(tmp_path: Path) -> None:
    made = tiny.make_workspace(tmp_path / "tiny", rows=60)
    tiny.publish(made, 1)
    tiny.make_live(made, 1)
    (entry,) = make_catalogue(made, "clicks_1h").features
    assert [(use.model, use.version, use.stage, use.same) for use in entry.models] == [("din", 1, "live", True)]
    changed = tiny.DECLARATIONS.replace('by=user, window="1h"', 'by=user, window="2h"')
    (made.folder / "project.py").write_text(changed)
    changed_workspace = load_workspace(made.folder)
    (entry,) = make_catalogue(changed_workspace, "clicks_1h").features
    assert [use.same for use in entry.models] == [False]
    (entry,) = make_catalogue(changed_workspace, "since_click").features
    assert [use.same for use in entry.models] == [True], "another feature's change is none of its own"
    shutil.rmtree(made.bundles_folder / "din" / "1")
    assert make_catalogue(changed_workspace, "since_click").features[0].models == []


@pytest.mark.parametrize("project", [shop.project, shop_more.project])
def test_a_part_of_a_plan_reads_the_same(project: object) -> None:
    plan = compile_plan(project)  # type: ignore[arg-type]
    for feature in plan.features:
        part = slots_only(features_only(plan, [feature.name]))
        assert len(part.slots) <= len(plan.slots)
        assert feature_fingerprint(part, feature.name) == feature_fingerprint(plan, feature.name)
        build_engine(part)


def test_a_part_of_a_plan_gives_the_same_values(workspace: Workspace) -> None:
    plan = compile_plan(workspace.project)
    names = ["rate", "colour_share", "city_brand", "clicked"]
    blocks = []
    for each in (plan, slots_only(features_only(plan, names))):
        reader, encoder = LogReader(workspace), Encoder(each)
        reads = reads_of_exposures(encoder, reader.exposures().sort_by("_read_lsn"))
        blocks.append([rows.block for rows in replay(reader, encoder, build_engine(each), reads)])
    for whole, part in zip(*blocks, strict=True):
        np.testing.assert_array_equal(whole.numbers["rate"], part.numbers["rate"])
        np.testing.assert_array_equal(whole.numbers["colour_share"], part.numbers["colour_share"])
        np.testing.assert_array_equal(whole.categories["city_brand"], part.categories["city_brand"])
        np.testing.assert_array_equal(whole.sequences["clicked"].age, part.sequences["clicked"].age)

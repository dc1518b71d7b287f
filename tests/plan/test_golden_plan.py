"""The shops' compiled plans are those in git; ``python -m tests.plan.test_golden_plan`` writes them anew."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.spec import Plan
from tests import shop, shop_more

GOLDEN = Path(__file__).parent.parent / "golden"
PROJECTS = [shop.project, shop_more.project]


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_plan_is_golden(project: shop.bb.Project) -> None:
    plan = compile_plan(project)
    assert msgspec.json.format(plan.to_json()) == (GOLDEN / f"{project.name}_plan.json").read_bytes().rstrip()


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_plan_survives_json(project: shop.bb.Project) -> None:
    plan = compile_plan(project)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.fingerprint == plan.fingerprint


def test_aggregates_are_shared_and_named_by_meaning() -> None:
    plan = compile_plan(shop.project)
    fingerprints = [aggregate.fingerprint for aggregate in plan.aggregates]
    assert len(set(fingerprints)) == len(fingerprints)
    clicks = plan.feature("clicks_1h")
    more = plan.nodes[plan.feature("more_clicks").node]
    assert more.inputs[0] == clicks.node


def test_what_an_operation_keeps_tells_aggregates_apart() -> None:
    plan = compile_plan(shop_more.project)
    fingerprints = [aggregate.fingerprint for aggregate in plan.aggregates]
    assert len(set(fingerprints)) == len(fingerprints)
    largest, smallest = (plan.nodes[at] for at in plan.nodes[plan.feature("amount_range").node].inputs)
    assert largest.aggregate != smallest.aggregate
    assert smallest.aggregate == plan.nodes[plan.feature("smallest").node].aggregate


if __name__ == "__main__":
    for project in PROJECTS:
        plan = compile_plan(project)
        (GOLDEN / f"{project.name}_plan.json").write_bytes(msgspec.json.format(plan.to_json()) + b"\n")

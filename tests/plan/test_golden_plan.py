"""The shop's compiled plan is the one in git; ``python -m tests.plan.test_golden_plan`` writes it anew."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.spec import Plan
from tests.shop import project

GOLDEN = Path(__file__).parent.parent / "golden" / "shop_plan.json"


def test_plan_is_golden() -> None:
    plan = compile_plan(project)
    assert msgspec.json.format(plan.to_json()) == GOLDEN.read_bytes().rstrip()


def test_plan_survives_json() -> None:
    plan = compile_plan(project)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.fingerprint == plan.fingerprint


def test_aggregates_are_shared_and_named_by_meaning() -> None:
    plan = compile_plan(project)
    fingerprints = [aggregate.fingerprint for aggregate in plan.aggregates]
    assert len(set(fingerprints)) == len(fingerprints)
    clicks = plan.feature("clicks_1h")
    more = plan.nodes[plan.feature("more_clicks").node]
    assert more.inputs[0] == clicks.node


if __name__ == "__main__":
    GOLDEN.write_bytes(msgspec.json.format(compile_plan(project).to_json()) + b"\n")

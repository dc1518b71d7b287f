"""A plan of a version whose aggregates did not say what they keep is refused, and not read wrong."""

from __future__ import annotations

import msgspec
import pytest

from bowerbird.errors import InputError
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.engine import NativeEngine
from tests.shop import project


def test_an_aggregate_without_its_parts_is_refused() -> None:
    plan = compile_plan(project)
    older = [msgspec.structs.replace(aggregate, parts=[]) for aggregate in plan.aggregates]
    with pytest.raises(InputError, match="older Bowerbird"):
        NativeEngine(msgspec.structs.replace(plan, aggregates=older))

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bowerbird.errors import FunctionError, InputError
from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.functions import FunctionEvaluator, digest_of, function_files, load_function, native_plan
from bowerbird.plan.spec import Feature, Function, Node, Plan, RecordType, Slot
from bowerbird.plan.user_code import read_function_files

SOURCE = """
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LIMIT = 2

def total(first, second):
    return first * 10 + second

def rounded(first, second):
    return np.floor(second).astype(np.int64)

def word(first, second):
    return ["high" if value > LIMIT else "" if value < 0 else None for value in second]

def key(first, second):
    return (first > 1) * np.uint64(7)

def arrow(first, second):
    return pc.add(pa.array(first), pa.array(second))

def mixing(first, second):
    return second - second.mean()

def writing(first, second):
    first += 1
    return first

def short(first, second):
    return first[:1]

def text(first, second):
    return np.full(len(first), "a")

def half(first, second):
    return first * 0.5

def huge(first, second):
    return first.astype(np.float64) * 1e300

not_callable = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scores.py").write_text(SOURCE)
    return tmp_path


def plan_of(function: Function, is_category: bool = False, stage: Any = "pair") -> Plan:
    """A function of a request's number (node 0) and a candidate's (node 1), beside that candidate's number."""
    nodes = [
        Node("value", "request", False),
        Node("value", "request" if stage == "request" else "item", False),
        Node("function", stage, is_category, inputs=[0, 1], function=function),
    ]
    features = [
        Feature("made", "category" if is_category else "number", stage, 2),
        Feature("plain", "number", "item", 1),
    ]
    slots = [Slot("user", "integer"), Slot("item", "integer")]
    return Plan("p", slots, [RecordType("e", "exposure", [0, 1])], [], [], nodes, features, 1, 0)


def evaluator(folder: Path, name: str, is_category: bool = False, stage: Any = "pair") -> FunctionEvaluator:
    loaded = load_function(f"scores:{name}", folder)
    return FunctionEvaluator(plan_of(Function(loaded.path, digest_of(loaded)), is_category, stage))


def block(first: list[float], second: list[float]) -> FeatureBlock:
    numbers = {"plain": second, "#0": first, "#1": second}
    return FeatureBlock(numbers={name: np.array(values, np.float32) for name, values in numbers.items()}, lsn=5)


def test_engines_read_hidden_inputs_instead_of_functions(folder: Path) -> None:
    plan = evaluator(folder, "total").native_plan
    assert [(feature.name, feature.node) for feature in plan.features] == [("plain", 1), ("#0", 0), ("#1", 1)]
    assert native_plan(plan) is plan


def test_request_inputs_are_repeated_for_candidates_and_replay_gives_the_same(folder: Path) -> None:
    made = evaluator(folder, "total")
    live = made.complete(block([2.0], [1.0, 2.5, np.nan]))
    replayed = made.complete(block([2.0, 2.0, 2.0], [1.0, 2.5, np.nan]))
    np.testing.assert_array_equal(live.numbers["made"], np.array([21, 22.5, np.nan], np.float32))
    np.testing.assert_array_equal(live.numbers["made"], replayed.numbers["made"])
    assert list(live.numbers) == ["made", "plain"] and live.lsn == 5
    cost = made.costs["made"]
    assert (cost.calls, cost.rows) == (2, 6) and cost.seconds > 0


def test_a_function_of_the_request_alone_is_given_one_row(folder: Path) -> None:
    made = evaluator(folder, "total", stage="request").complete(block([2.0], [3.0]))
    assert made.numbers["made"].tolist() == [23.0]


def test_without_candidates_no_function_is_called(folder: Path) -> None:
    made = evaluator(folder, "total")
    assert made.complete(block([2.0], [])).numbers["made"].dtype == np.float32
    assert made.costs["made"].calls == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rounded", [key_integer(-1), key_integer(1), key_integer(3)]),
        ("word", [0, 0, key_text("high")]),
        ("key", [7, 7, 7]),
    ],
)
def test_categories_are_keys_of_what_is_returned(folder: Path, name: str, expected: list[int]) -> None:
    made = evaluator(folder, name, is_category=True).complete(block([2.0], [-1.0, 1.0, 3.0]))
    assert made.categories["made"].tolist() == expected


def test_arrow_arrays_are_taken_and_what_is_not_finite_is_unknown(folder: Path) -> None:
    made = evaluator(folder, "arrow").complete(block([2.0], [1.0, 2.0]))
    assert made.numbers["made"].tolist() == [3.0, 4.0]
    assert np.isnan(evaluator(folder, "huge").complete(block([2.0], [1.0])).numbers["made"]).all()


@pytest.mark.parametrize(
    ("name", "is_category", "what"),
    [
        ("mixing", False, "for that row alone"),
        ("writing", False, "raised ValueError"),
        ("short", False, r"shape \(1,\) for 2 rows"),
        ("text", False, "a number is declared"),
        ("half", True, "whole numbers, texts or keys"),
    ],
)
def test_a_failing_function_is_named_with_its_feature(folder: Path, name: str, is_category: bool, what: str) -> None:
    with pytest.raises(FunctionError, match=rf"'scores:{name}' of feature 'made' .*{what}"):
        evaluator(folder, name, is_category).complete(block([1.0], [1.0, 2.0]))


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("scores", "is not a function's path"),
        ("../scores:total", "is not a function's path"),
        ("absent.module:total", "The module 'absent.module' is not there"),
        ("scores:totl", "Did you mean 'total'"),
        ("scores:not_callable", "is not a function"),
        ("broken:f", "SyntaxError"),
        ("math:sqrt", "has no Python source"),
    ],
)
def test_what_cannot_be_loaded_is_told(folder: Path, path: str, what: str) -> None:
    (folder / "broken.py").write_text("def f(:")
    with pytest.raises(InputError, match=what):
        load_function(path, folder)


def test_installed_modules_are_found() -> None:
    loaded = load_function("statistics:mean")
    assert loaded([1, 3]) == 2 and len(loaded.digest) == 64


def test_versions_of_a_module_live_side_by_side(folder: Path) -> None:
    old = evaluator(folder, "total")
    (folder / "scores.py").write_text(SOURCE.replace("first * 10", "first * 100"))
    new = evaluator(folder, "total")
    assert old.complete(block([2.0], [1.0])).numbers["made"].tolist() == [21.0]
    assert new.complete(block([2.0], [1.0])).numbers["made"].tolist() == [201.0]


def test_a_changed_source_is_an_error_with_both_hashes(folder: Path) -> None:
    with pytest.raises(InputError, match=r"has changed: the plan was made with 'scores:total' of 0{64}, and it is"):
        FunctionEvaluator(plan_of(Function("scores:total", "0" * 64)), folder)


def test_sources_travel_with_the_plan(folder: Path, tmp_path: Path) -> None:
    loaded = load_function("scores:total", folder)
    plan = plan_of(Function(loaded.path, loaded.digest))
    files = function_files(plan)
    assert files == {"functions/scores.py": SOURCE.encode()}
    changed = SOURCE.replace("LIMIT = 2", "LIMIT = 5")
    away = tmp_path / "elsewhere"
    (away / "functions").mkdir(parents=True)
    (away / "functions" / "scores.py").write_text(changed)
    (folder / "scores.py").write_text("def total(): ...")
    new = plan_of(Function("scores:word", hashlib.sha256(changed.encode()).hexdigest()), is_category=True)
    read_function_files(new, away)
    made = FunctionEvaluator(new, folder).complete(block([2.0], [4.0, 6.0]))
    assert made.categories["made"].tolist() == [0, key_text("high")]

"""Mistakes in declarations are found, with file, line and the nearest right name."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from bowerbird import declare as bb
from bowerbird.errors import DeclarationError, Problem
from bowerbird.plan.check import check, require_valid
from bowerbird.plan.compiler import compile_plan
from tests.shop import click, exposure, item, items, order, project, user


def problems_of(features: dict[str, object]) -> list[Problem]:
    return check(replace(project, features=features))  # type: ignore[arg-type]


def line() -> int:
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def test_the_shop_is_valid() -> None:
    assert check(project) == []


def test_a_typo_names_file_line_and_nearest() -> None:
    (problem,) = problems_of({"colour": bb.category(items["color"])})
    assert Path(problem.file) == Path(__file__)
    assert problem.line == line() - 2
    assert "'color'" in problem.what and "Did you mean 'colour'?" in problem.remedy


def test_every_feature_is_checked() -> None:
    found = problems_of(
        {
            "a": bb.category(items["price"]),
            "b": bb.number(items["colour"]),
            "c": bb.count(click, by=user, window="1 fortnight"),
            "d": bb.cross(bb.category(user)),
            "e": bb.hour("Mars/Olympus"),
            "f": bb.sequence(click, by=user, length=0, fields=[item]),
            "g": bb.total(click, click["page"], by=user),
            "h": bb.number(items["price"]).bucketise(boundaries=[3.0, 1.0]),
            "i": bb.rate(click, exposure, by=user, prior=0.1, strength=-1.0),
            "j": bb.count(order.where(order["amount"] == "many"), by=user),
            "not a name": bb.category(user),
            "k": "user",
        }
    )
    assert len(found) == 12
    for name in "abcdefghijk":
        assert any(f"Feature {name!r}" in problem.what for problem in found), name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"labels": [bb.Label("click", click, within="soon")]}, "not a duration"),
        ({"scenes": [bb.Scene("home", user, item, [bb.Label("buy", order, within="1h")])]}, "not a label"),
        ({"events": [click, order, bb.Event("click", [user, item])]}, "named 'click'"),
        ({"events": [click, order, bb.Event("view", [item])]}, "does not say whose"),
        ({"sources": [bb.Source("log", "*.csv", click, key=["a"])]}, "has no time"),
        ({"sources": [bb.Source("log", "*.csv", click, bb.Timestamp("t"))]}, "no identity"),
        (
            {
                "sources": [
                    bb.Source("log", "*.csv", click, bb.Timestamp("t"), key=["a"], columns={"usr": "u"})
                ]
            },
            "'usr'",
        ),
        ({"fit_until": "last tuesday"}, "fit_until"),
    ],
)
def test_other_declarations_are_checked(change: dict[str, object], expected: str) -> None:
    found = check(replace(project, **change))  # type: ignore[arg-type]
    assert any(expected in problem.what for problem in found), found


def test_require_valid_and_compile_raise_everything() -> None:
    broken = replace(project, features={"a": bb.category(items["color"]), "b": bb.category(items["brnd"])})
    with pytest.raises(DeclarationError) as caught:
        require_valid(broken)
    assert len(caught.value.problems) == 2
    with pytest.raises(DeclarationError):
        compile_plan(broken)


def test_an_entity_reached_in_several_ways_is_refused() -> None:
    maker = bb.Entity("maker")
    table = bb.Table("both", item, {"maker": maker, "seller": maker})
    changed = replace(project, tables=[*project.tables, table], features={"m": bb.count(click, by=maker)})
    assert any("several ways" in problem.what for problem in check(changed))

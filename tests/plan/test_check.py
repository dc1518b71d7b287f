"""Mistakes in declarations are found, with file, line and the nearest right name."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from bowerbird import declare as bb
from bowerbird.declare.columns import Location
from bowerbird.errors import DeclarationError, Problem
from bowerbird.plan.check import check, require_valid
from bowerbird.plan.compiler import compile_plan
from tests.shop import click, exposure, item, items, order, project, user

pictures = bb.Table("pictures", item, {"look": bb.VECTOR(2)})
counted = bb.Event("counted", [user, item], {"count": bb.INTEGER})
spread = bb.function("shop_functions:spread", bb.number(items["price"]), bb.number(items["price"]))


def late_source(**times: object) -> bb.Source:
    return bb.Source("log", "*.csv", click, bb.Timestamp("t"), key=["a"], **times)  # type: ignore[arg-type]


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
    ("feature", "expected"),
    [
        (bb.minimum(order, order["amount"], by=user, window=bb.Decay("1h")), "min does not decay"),
        (bb.deviation(order, order["amount"], by=user, window=bb.Decay("1h")), "std does not decay"),
        (bb.maximum(click, click["page"], by=user), "'page' is not a NUMBER"),
        (bb.count(click, by=user, window="1d", ttl="1h"), "ttl does not go with a window of '1d'"),
        (bb.since(click, by=user, ttl="soon"), "'soon' is not a duration"),
        (bb.total(order, order["amount"], scale=0), "scale 0 is not possible"),
        (bb.count(click, by=user, window="5s"), "too short for tiles"),
        (bb.count(click, by=user, window="99999w"), "too long"),
        (bb.top(click, items["price"], by=user, k=3), "'items.price' is a number, not a category"),
        (bb.top(click, item, by=user, k=0), "A top of 0"),
        (bb.top(click, item, by=user, k=50, capacity=20), "capacity 20 is less than k 50"),
        (bb.top(counted, counted["count"], by=user, k=2), "a field 'count' of its own"),
        (bb.match(bb.top(click, item, by=user, k=3), items["colour"]), "The top has no field 'items.colour'"),
        (bb.match(bb.sequence(click, user, 5, [item]), item, candidate=items["price"]), "not a category"),
        (bb.match(click, item), "is not a sequence"),  # type: ignore[arg-type]
        (bb.sequence(click, by=user, length=5, fields=[], distinct=True), "no fields"),
        (bb.sequence(click, by=user, length=5, fields=[pictures["look"]]), "state keeps none"),
        (bb.latest(click, pictures["look"], by=user), "state keeps none"),
        (bb.latest(click, "page", by=user), "'page' is not an entity or a column"),  # type: ignore[arg-type]
        (bb.vector(items["colour"]), "'items.colour' is not a VECTOR"),
        (bb.vector(pictures["lok"]), "no column 'lok'"),
        (bb.category(pictures["look"]), "is a VECTOR, not a category"),
        (bb.count(click, by=pictures["look"]), "is a VECTOR, not a key"),
        (bb.count(click.where(pictures["look"] == 1), by=user), "not a value of a column of type vector"),
        (bb.bias(items["price"], serve=1), "is not a column of 'exposure'"),
        (bb.bias(exposure["position"], serve="first"), "'first' is not a number"),
        (bb.bias(exposure["page"], serve="one"), "not a value of a column of type integer"),
        (bb.function("shop_functions:spred", bb.number(items["price"])), "'spred' is not there"),
        (bb.function("no_such_module:spread", bb.number(items["price"])), "'no_such_module'"),
        (bb.function("spread", bb.number(items["price"])), "not a function's path"),
        (bb.function("shop_functions:spread"), "has no inputs"),
        (bb.function("shop_functions:spread", bb.vector(pictures["look"])), "cannot take"),  # type: ignore[arg-type]
        (bb.function("shop_functions:spread", bb.number(items["price"]), output="text"), "'text'"),  # type: ignore[arg-type]
        (bb.cross(bb.category(user), spread), "two or more categories"),  # type: ignore[arg-type]
    ],
)
def test_new_operations_are_checked(feature: object, expected: str) -> None:
    location = Location(str(Path(__file__).parents[1] / "shop_more.py"), 1)
    changed = replace(
        project,
        features={"new": feature},
        events=[*project.events, counted],
        tables=[*project.tables, pictures],
        location=location,
    )
    (problem,) = check(changed)
    assert expected in problem.what
    assert problem.remedy
    assert problem.file in (__file__, location.file)


def test_a_bias_input_has_one_value() -> None:
    both = {"a": bb.bias(exposure["position"], serve=1), "b": bb.bias(exposure["position"], serve=2)}
    (problem,) = problems_of(both)
    assert "two different values" in problem.what


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
            {"sources": [bb.Source("log", "*.csv", click, bb.Timestamp("t"), key=["a"], columns={"usr": "u"})]},
            "'usr'",
        ),
        ({"fit_until": "last tuesday"}, "fit_until"),
        ({"events": [click, order, bb.Event("view", [user, item], lateness="a while")]}, "not a duration"),
        ({"events": [click, order, bb.Event("view", [user], beyond="drop", lateness="1h")]}, "beyond='drop'"),
        ({"events": [click, order, bb.Event("view", [user], beyond="reject")]}, "does not say when"),
        ({"events": [click, order, bb.Event("view", [user], {"look": bb.VECTOR(3)})]}, "is a vector"),
        ({"tables": [items, bb.Table("pictures", item, {"look": bb.VECTOR(0)})]}, "width 0"),
        ({"sources": [late_source(delay="later")]}, "not a duration"),
        ({"sources": [late_source(available=bb.Timestamp("seen", unit="hours"))]}, "'hours' is not a unit"),
        ({"sources": [late_source(delay="1h", available=bb.Timestamp("seen"))]}, "both delay= and available="),
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

"""The examples of docs/how-to/features.md compile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bowerbird import declare as bb
from bowerbird.declare.columns import Location, VectorType
from bowerbird.plan.check import check

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "features.md").read_text(encoding="utf-8")
EXAMPLES = sorted(
    {found for line in PAGE.splitlines() if line[:1] == "|" for found in re.findall(r"`(bb\..+?)`", line)}
)


def declared() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)[0], names)
    return names


def test_the_page_has_every_operation() -> None:
    functions = {name for name in bb.__all__ if name.islower()}
    assert {name for name in functions if f"bb.{name}(" in PAGE} == functions


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_compiles(example: str, tmp_path: Path) -> None:
    (tmp_path / "scores.py").write_text("def distance(left, right):\n    return left - right\n")
    names = declared()
    feature = eval(example, names)
    if isinstance(feature, VectorType | bb.Decay):
        return
    project = bb.Project(
        name="how_to",
        exposure=names["exposure"],
        user=names["user"],
        item=names["video"],
        events=[names["click"], names["order"]],
        tables=[names["videos"]],
        features={"example": feature},
        location=Location(str(tmp_path / "project.py"), 1),
    )
    assert check(project) == []

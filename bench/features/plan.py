"""The 24 features that bench.features computes, and which of them a peer can express."""

from __future__ import annotations

from dataclasses import dataclass

from bowerbird import declare as bb
from bowerbird.declare.features import FeatureExpression
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.spec import Plan

SPANS = ("1h", "1d", "7d")
HALF_LIFE = "6h"
PRIOR, STRENGTH = 0.15, 20.0
SEQUENCE = "user_clicks"
DECAYED = f"user_clicks_decayed_{HALF_LIFE}"
LENGTH = 50

user = bb.Entity("user", bb.INTEGER)
item = bb.Entity("item", bb.INTEGER)
items = bb.Table("items", item, {"category": bb.INTEGER})
exposure = bb.Exposure("exposure", [user, item])
click = bb.Event("click", [user, item])


@dataclass(frozen=True)
class WindowedKey:
    """A key, as peers name its columns, and the spans over which its clicks and exposures are counted."""

    name: str
    columns: tuple[str, ...]
    spans: tuple[str, ...]


KEYS = (
    WindowedKey("user", ("user",), SPANS),
    WindowedKey("item", ("item",), SPANS),
    WindowedKey("user_category", ("user", "category"), SPANS),
    WindowedKey("category", ("category",), ("1d",)),
)
RATED = ("item", "user_category")
"""Keys with a smoothed rate of clicks over 7 days."""
_BY = {
    "user": user,
    "item": item,
    "user_category": (user, items["category"]),
    "category": items["category"],
}


def counted(key: WindowedKey, what: str, span: str) -> str:
    """Return the name of a count; ``what`` is clicks or shown."""
    return f"{key.name}_{what}_{span}"


def numbers() -> list[str]:
    """Return the 23 features that are one number for an exposure: all but the sequence."""
    return [name for name in features() if name != SEQUENCE]


def features() -> dict[str, FeatureExpression]:
    """Return the 24 features by name."""
    made: dict[str, FeatureExpression] = {}
    for key in KEYS:
        for span in key.spans:
            made[counted(key, "clicks", span)] = bb.count(click, _BY[key.name], span)
            made[counted(key, "shown", span)] = bb.count(exposure, _BY[key.name], span)
    for name in RATED:
        made[f"{name}_rate_7d"] = bb.rate(click, exposure, _BY[name], "7d", prior=PRIOR, strength=STRENGTH)
    made[DECAYED] = bb.count(click, user, bb.Decay(HALF_LIFE))
    made[SEQUENCE] = bb.sequence(click, user, LENGTH, [item, items["category"]])
    return made


def compiled(names: list[str]) -> Plan:
    """Return the plan of the named features."""
    chosen = {name: expression for name, expression in features().items() if name in names}
    return compile_plan(
        bb.Project(
            name="features", exposure=exposure, user=user, item=item, events=[click], tables=[items], features=chosen
        )
    )


def counts_of(rated: str) -> tuple[str, str]:
    """Return the names of the two counts that a key's smoothed rate divides."""
    key = next(key for key in KEYS if key.name == rated)
    return counted(key, "clicks", "7d"), counted(key, "shown", "7d")

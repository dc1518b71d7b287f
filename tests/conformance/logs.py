"""Random logs of the second shop: late events, retractions, vectors, and gaps longer than a time to live."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.conformance.compare import MINUTE, START

Record = dict[str, object]

STEPS = [0, 0, 1, MINUTE, 7 * MINUTE, 29 * MINUTE, 60 * MINUTE, 61 * MINUTE, 30 * 60 * MINUTE, 9 * 1440 * MINUTE]
LATE = [-1, -MINUTE, -40 * MINUTE, -200 * MINUTE, -26 * 60 * MINUTE, -20 * 1440 * MINUTE]

number = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, -0.5, 1e12, float("nan")]))
text = st.one_of(st.none(), st.sampled_from(["red", "blue", "green", "x", ""]))
user_id = st.integers(1, 2)
item_id = st.sampled_from(["a", "b", "c", "d"])


def vector(width: int) -> st.SearchStrategy[list[float] | None]:
    component = st.one_of(st.floats(-2.0, 2.0, width=32), st.sampled_from([0.0, 1.0, float("nan")]))
    return st.one_of(st.none(), st.lists(component, min_size=width, max_size=width))


VALUES: dict[str, dict[str, st.SearchStrategy[object]]] = {
    "exposure": {"user": user_id, "item": item_id, "page": st.integers(0, 2), "position": number},
    "click": {"user": user_id, "item": item_id, "page": st.one_of(st.none(), st.integers(0, 2))},
    "order": {"user": st.one_of(st.none(), user_id), "item": item_id, "amount": number, "coupon": text},
    "users": {"user": user_id, "city": text, "taste": vector(2)},
    "items": {"item": item_id, "brand": text, "colour": text, "price": number, "embedding": vector(3)},
    "brands": {"brand": text, "country": text, "look": vector(2)},
}
KINDS = [*VALUES, *["click", "order"] * 3, "items", "exposure", "unknown"]


@st.composite
def records(draw: st.DrawFn, retractions: bool = True, size: int = 40) -> list[Record]:
    """Records in log order: each a step after the one before, or late; some take an earlier event back."""
    time, drawn = START, []
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=size)):
        time += draw(st.sampled_from(STEPS))
        events = [record for record in drawn if record["_type"] in ("click", "order") and "_retracts" not in record]
        if retractions and events and draw(st.integers(0, 5)) == 0:
            drawn.append(draw(st.sampled_from(events)) | {"_retracts": True})
            continue
        late = draw(st.sampled_from([0, 0, 0, *LATE]))
        values = {name: draw(value) for name, value in VALUES.get(kind, {}).items()}
        drawn.append({"_type": kind, "_time": time + late, **values})
    return drawn

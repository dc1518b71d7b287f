"""The catalogue of features as tables for a person."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from bowerbird.monitoring.catalogue import Catalogue, FeatureEntry, StateUse
from bowerbird.monitoring.moments import FeatureMoments

_UNKNOWN = "–"


def catalogue_table(catalogue: Catalogue) -> Table:
    """Return one line for each feature."""
    costs = any(entry.cost is not None for entry in catalogue.features)
    table = Table("feature", "kind", "stage", "what it is", title="Features", title_justify="left")
    for title in ("coverage", "values"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("state", "µs/event", "µs/read") if costs else ():
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("used by")
    for entry in catalogue.features:
        cells = [entry.name, _kind(entry), entry.stage, entry.description, _coverage(entry.moments)]
        cells.append(_values(entry.moments))
        cells += [_state(entry.states), *_cost(entry)] if costs else []
        table.add_row(*(Text(cell) for cell in [*cells, _users(entry)]))
    return table


def catalogue_title(catalogue: Catalogue) -> str:
    """Return where the figures come from, and what is missing."""
    lines = [f"{catalogue.project}: plan {catalogue.plan}."]
    if catalogue.samples:
        day = f" of {catalogue.day}" if catalogue.day else ""
        lines.append(f"Coverage and moments over {catalogue.rows:,} samples {catalogue.samples!r}{day}.")
    if catalogue.measured:
        lines.append(f"State and cost measured {catalogue.measured} at {catalogue.measured_records:,} records.")
    return "\n".join([*lines, *catalogue.missing])


def feature_page(entry: FeatureEntry) -> Table:
    """Return one feature in full."""
    page = Table(title=entry.name, title_justify="left", show_header=False)
    page.add_column(style="bold", no_wrap=True)
    page.add_column(overflow="fold")
    _line(page, "kind", f"{_kind(entry)}, stage {entry.stage}")
    _line(page, "what it is", entry.description)
    _line(page, "fingerprint", entry.fingerprint)
    if entry.vocabulary:
        _line(page, "vocabulary", entry.vocabulary)
    if entry.fields:
        _line(page, "fields", ", ".join(entry.fields))
    for name, value in _moments(entry.moments):
        _line(page, name, value)
    for state in entry.states:
        _line(page, "state", f"{state.aggregate} ({state.fingerprint}): {_state([state])}")
    if entry.cost is not None:
        _line(page, "cost alone", f"{entry.cost.event_us:.3f} µs an event, {entry.cost.read_us:.3f} µs a read")
    _line(page, "used by", _users(entry, all_of_them=True) or "no version")
    return page


def _line(page: Table, name: str, value: str) -> None:
    page.add_row(Text(name), Text(value))


def _kind(entry: FeatureEntry) -> str:
    size = entry.length or entry.width
    return f"{entry.kind} × {size}" if size else entry.kind


def _coverage(moments: FeatureMoments | None) -> str:
    return _UNKNOWN if moments is None else f"{moments.coverage:.1%}"


def _values(moments: FeatureMoments | None) -> str:
    if moments is None:
        return _UNKNOWN
    if moments.number is not None:
        return f"{moments.number.mean:.4g} ± {moments.number.std:.3g}"
    if moments.category is not None:
        return f"{moments.category.distinct:,} distinct"
    if moments.sequence is not None:
        return f"{moments.sequence.mean_length:.1f} long"
    return _UNKNOWN


def _moments(moments: FeatureMoments | None) -> list[tuple[str, str]]:
    if moments is None:
        return [("coverage", "unknown")]
    lines = [("coverage", f"{moments.coverage:.2%} of {moments.rows:,} samples")]
    if (number := moments.number) is not None:
        low, middle, high = number.quantiles
        lines += [
            ("mean ± std", f"{number.mean:.6g} ± {number.std:.6g}"),
            ("least … greatest", f"{number.minimum:.6g} … {number.maximum:.6g}"),
            ("1 %, 50 %, 99 %", f"{low:.6g}, {middle:.6g}, {high:.6g}"),
        ]
    if (category := moments.category) is not None:
        lines += [
            ("distinct", f"{category.distinct:,}"),
            ("most frequent", f"{category.most_frequent} ({category.share:.2%})"),
        ]
    if (sequence := moments.sequence) is not None:
        lines.append(("length", f"{sequence.mean_length:.2f} on average, {sequence.longest:,} at most"))
    return lines


def _state(states: list[StateUse]) -> str:
    """Return the state's size: the aggregates' own bytes where they are known, else their families'."""
    if not states:
        return ""
    if all(state.bytes is not None for state in states):
        return _size(sum(state.bytes or 0 for state in states))
    families = {state.keys: state.family for state in states if state.family is not None}
    if not families:
        return _UNKNOWN
    keys = sum(family.keys for family in families.values())
    return f"{keys:,} keys, ≤ {_size(sum(family.bytes for family in families.values()))}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1_000:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:.3g} GB"


def _cost(entry: FeatureEntry) -> tuple[str, str]:
    if entry.cost is None:
        return _UNKNOWN, _UNKNOWN
    return f"{entry.cost.event_us:.3f}", f"{entry.cost.read_us:.3f}"


def _users(entry: FeatureEntry, all_of_them: bool = False) -> str:
    shown = [use for use in entry.models if all_of_them or use.stage != "retired"]
    return ", ".join(
        f"{use.model} {use.version}{' (live)' if use.stage == 'live' else ''}{'' if use.same else ' (other meaning)'}"
        for use in shown
    )

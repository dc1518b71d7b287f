"""A version's scorer, run by the fastest way that its gates allow and this host has."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch

from bowerbird.bundles.block_json import block_from_json
from bowerbird.bundles.bundle import Bundle, verify_golden
from bowerbird.bundles.host import this_host
from bowerbird.bundles.scorer import Scorer
from bowerbird.bundles.way_choice import ChoiceStore, RefusedWay, WayChoice, WayTiming, Why, ranked
from bowerbird.bundles.ways import known_ways, served_by
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import InputError
from bowerbird.kernels.pair import PairProgram
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.block_rows import take_each
from bowerbird.plan.mistake import nearest

_LOG = logging.getLogger("bowerbird.serving")
CANDIDATES = (50, 200, 500)
"""The ways are measured with requests of so many candidates."""
_ROUNDS = 10
_LEAST_ROUNDS = 5
_SECONDS = 0.3


@dataclass(frozen=True)
class WaySetting:
    """Where choices are kept, and the way that is set for every model, or by a model's name; empty: the fastest."""

    folder: Path
    way: str | Mapping[str, str] = ""

    @property
    def cache(self) -> Path:
        """Where backends keep what takes them long to prepare, by content."""
        return self.folder / "prepared"

    def pinned(self, model: str) -> str:
        """Return the way that is set for a model, or an empty text."""
        return self.way if isinstance(self.way, str) else self.way.get(model, "")


def way_setting(workspace: Workspace) -> WaySetting:
    """Return what a project's settings say of ways."""
    return WaySetting(workspace.ways_folder, workspace.settings.server.way)


@dataclass(frozen=True)
class Served:
    """A scorer that answered the golden requests right, and how it was chosen."""

    scorer: Scorer
    choice: WayChoice


def load_served(bundle: Bundle, setting: WaySetting) -> Served:
    """Return a version's scorer: by the way that is set, or the fastest, measured once for each structure and host.

    A version that is like one before but for its weights is served as that one is. Where a way does not load or answers
    the golden requests wrongly, the next one takes over, the plain one last, and the choice says so. Raises InputError
    for a set way that is unknown or not allowed, CorruptionError where even the plain way answers wrongly, and what
    kept a set way from loading.
    """
    pinned = setting.pinned(bundle.manifest.name)
    if pinned:
        check_allowed(bundle, pinned)
        scorer = verify_golden(bundle, bundle.load_scorer(pinned, setting.cache), pinned)
        return Served(scorer, WayChoice(pinned, "pinned", this_host()))
    store = ChoiceStore(setting.folder)
    known = store.get(bundle.digest, this_host())
    if known is not None and known.way in bundle.ways:
        return _as_before(bundle, known, setting.cache)
    like = store.get(bundle.structure, this_host())
    if like is not None and like.way in bundle.ways and like.covers(bundle.ways):
        served = _as_before(bundle, like, setting.cache)
    else:
        served = _measured(bundle, setting.cache)
        store.put(bundle.structure, served.choice)
    store.put(bundle.digest, served.choice)
    return served


def check_allowed(bundle: Bundle, way: str) -> None:
    """Raise InputError unless a version may be served by ``way``; it says what the gates found."""
    if way in bundle.ways:
        return
    result = next((each for each in bundle.manifest.ways if each.name == way), None)
    if result is None and way not in known_ways():
        raise InputError(f"No way of serving is named {way!r}.", nearest(way, bundle.ways))
    raise InputError(
        f"{bundle.manifest.name} {bundle.manifest.version} may not be served by {way}: "
        f"{result.note if result is not None else 'its gates did not look at it'}.",
        f"Set server.way to one of {', '.join(bundle.ways)}, or leave it out for the fastest of them.",
    )


def _as_before(bundle: Bundle, known: WayChoice, cache: Path) -> Served:
    """Return the way that was chosen on this host before or, where it fails now, the next one."""
    refused = list(known.refused)
    best_first = dict.fromkeys([known.way, *ranked(known.timings), bundle.plain_way])
    for name in takewhile(lambda way: way != bundle.plain_way, best_first):
        try:
            scorer = verify_golden(bundle, bundle.load_scorer(name, cache), name)
            return _served(known, name, scorer, refused)
        except Exception as error:  # whatever a backend raises, another way can answer
            refused.append(_refused(bundle, name, error))
    return _served(known, bundle.plain_way, verify_golden(bundle), refused)


def _served(known: WayChoice, way: str, scorer: Scorer, refused: list[RefusedWay]) -> Served:
    why: Why = known.why if way == known.way else "fallback"
    return Served(scorer, WayChoice(way, why, known.host, known.timings, refused))


def _measured(bundle: Bundle, cache: Path) -> Served:
    """Load every way that is allowed, measure those that answer right, and return the best."""
    plain = verify_golden(bundle)
    scorers, refused = {bundle.plain_way: plain}, []
    for name in bundle.ways[1:]:
        try:
            scorer = Scorer(served_by(plain.model, bundle.way(name, cache)), bundle.calibrations)
            scorers[name] = verify_golden(bundle, scorer, name)
        except Exception as error:  # whatever a backend raises, another way can answer
            refused.append(_refused(bundle, name, error))
    if len(scorers) == 1:
        why: Why = "fallback" if refused else "only way"
        return Served(plain, WayChoice(bundle.plain_way, why, this_host(), [], refused))
    timings = measure(scorers, {count: request_block(bundle, count) for count in CANDIDATES})
    best = ranked(timings)[0]
    if unused := PairProgram.unused_amx():
        _LOG.warning("This processor's AMX is not used: %s", unused)
    _LOG.info("%s %d is served by %s", bundle.manifest.name, bundle.manifest.version, best)
    return Served(scorers[best], WayChoice(best, "fastest", this_host(), timings, refused))


def _refused(bundle: Bundle, way: str, error: Exception) -> RefusedWay:
    _LOG.warning("%s %d is not served by %s: %s", bundle.manifest.name, bundle.manifest.version, way, error)
    return RefusedWay(way, str(error))


def request_block(bundle: Bundle, candidates: int) -> FeatureBlock:
    """Return a request with the features of golden samples: those of the user with most events, items by turns."""
    golden = max((block_from_json(request.block) for request in bundle.golden), key=_rows)
    once = {feature.name for feature in bundle.plan.features if feature.stage == "request"}
    histories = [ragged for name, ragged in golden.sequences.items() if name in once and len(ragged) > 1]
    events = np.sum([np.diff(ragged.offsets) for ragged in histories], axis=0)
    user = np.array([int(np.argmax(events))])
    items = np.arange(candidates) % _rows(golden)
    return take_each(golden, lambda name, rows: np.minimum(user if name in once else items, rows - 1))


def _rows(block: FeatureBlock) -> int:
    columns: list[Sized] = [*block.categories.values(), *block.numbers.values()]
    columns += [*block.vectors.values(), *block.sequences.values()]
    return max(map(len, columns))


def measure(scorers: Mapping[str, Scorer], blocks: Mapping[int, FeatureBlock]) -> list[WayTiming]:
    """Return each scorer's least microseconds per candidate for requests of some numbers of candidates.

    The ways take turns. What else the machine does only adds, so that the least of several rounds says most of a way,
    and where models have one thread its own time is taken, without that of others. About a third of a second.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[tuple[str, int], list[float]] = {(name, count): [] for name in scorers for count in blocks}
    for name, count in seconds:
        scorers[name].score(blocks[count])
    started = time.perf_counter()
    for turn in range(_ROUNDS):
        if turn >= _LEAST_ROUNDS and time.perf_counter() - started > _SECONDS:
            break
        for (name, count), taken in seconds.items():
            began = clock()
            scorers[name].score(blocks[count])
            taken.append(clock() - began)
    return [
        WayTiming(name, {count: 1e6 * min(seconds[name, count]) / count for count in blocks})
        for name in scorers
    ]

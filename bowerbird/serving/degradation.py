"""Under load a scene goes down its declared ladder, and up again once the load would fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bowerbird.declare.degradation import CheaperModel, DegradationStep, FewerCandidates

_RISE_SHARE = 0.1
"""A wait of this share of the deadline, kept up for ``_RISE_SECONDS``, is answered by the next step."""
_RISE_SECONDS = 0.1
_SETTLE_SECONDS = 0.5
"""A step is given so long to show its effect before the next one."""
_FALL_LOAD = 0.7
"""A better level is taken when it would load the threads less than this, for ``_FALL_SECONDS``."""
_FALL_SECONDS = 2.0
_MEMORY_SECONDS = 1.0
"""Arrivals are forgotten at this rate."""

ServiceSeconds = Callable[[int], float]
"""The seconds that a request of usual size takes at a level."""


@dataclass(frozen=True)
class Level:
    """How a scene answers: with ``keep`` candidates at most (0: all), by the model named, or by popularity.

    ``name`` is the last step taken, empty for an answer in full.
    """

    name: str = ""
    keep: int = 0
    model: str = ""
    popular: bool = False

    def for_named_model(self, name: str) -> Level:
        """Return the level for a request that names its model, which is not replaced."""
        return Level("fewer_candidates" if self.keep else "", self.keep, name)


def levels_of(steps: Sequence[DegradationStep]) -> list[Level]:
    """Return the levels of a ladder, the full answer first; each has what the steps before it have."""
    levels = [Level()]
    for step in steps:
        if isinstance(step, FewerCandidates):
            levels.append(replace(levels[-1], name="fewer_candidates", keep=step.keep))
        elif isinstance(step, CheaperModel):
            levels.append(replace(levels[-1], name="cheaper_model", model=step.name))
        else:
            levels.append(replace(levels[-1], name="popularity", popular=True))
    return levels


class _SceneLoad:
    """One scene's arrivals and level."""

    def __init__(self, levels: int, seconds: ServiceSeconds, now: float) -> None:
        self.level = 0
        self._levels = levels
        self._seconds = seconds
        self._arrivals = 0.0
        self._counted = now
        self._changed = self._calm_since = now
        self._high_since: float | None = None

    def arrive(self, now: float) -> None:
        self._forget(now)
        self._arrivals += 1.0

    def load(self, level: int) -> float:
        """Return the seconds of work that come in a second when answered at a level."""
        return self._arrivals / _MEMORY_SECONDS * self._seconds(level)

    def rise(self, now: float, wait_share: float) -> None:
        if wait_share < _RISE_SHARE:
            self._high_since = None
            return
        if self._high_since is None:
            self._high_since = now
        settled = self.level == 0 or now - self._changed >= _SETTLE_SECONDS
        if settled and now - self._high_since >= _RISE_SECONDS and self.level + 1 < self._levels:
            self._change(now, self.level + 1)

    def fall(self, now: float, capacity: float) -> None:
        """Take the best level that fits into ``capacity`` seconds of work in a second, once one did for a while."""
        self._forget(now)
        fitting = next((level for level in range(self.level) if self.load(level) < capacity), self.level)
        if fitting == self.level:
            self._calm_since = now
        elif now - self._calm_since >= _FALL_SECONDS:
            self._change(now, fitting)

    def _change(self, now: float, level: int) -> None:
        self.level = level
        self._changed = self._calm_since = now
        self._high_since = None

    def _forget(self, now: float) -> None:
        passed = now - self._counted
        self._arrivals *= 0.5 ** (passed / (_MEMORY_SECONDS * 0.693147))
        self._counted = now


class Degradation:
    """Which level each scene answers at; used by one thread.

    A scene steps down while requests wait long for their deadlines. It goes back to the best level at which, by the
    arrivals of the last second and that level's measured times, all scenes together would load ``threads`` threads to
    less than 70%, once that holds for two seconds: so a steady load finds its level and stays.
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._clock = clock
        self._scenes: dict[str, _SceneLoad] = {}
        self._can_change = False

    def add_scene(self, name: str, levels: int, seconds: ServiceSeconds) -> None:
        """Watch a scene that has so many levels; ``seconds`` tells what a request takes at each."""
        self._scenes[name] = _SceneLoad(levels, seconds, self._clock())
        self._can_change |= levels > 1

    @property
    def can_change(self) -> bool:
        """Whether any scene has a level to go down to: arrivals need not be told otherwise."""
        return self._can_change

    def choose(self, name: str, wait_share: float) -> int:
        """Return the level for a request that comes now and would wait ``wait_share`` of the time that it has."""
        now = self._clock()
        scene = self._scenes[name]
        scene.arrive(now)
        scene.rise(now, wait_share)
        self._relax(now)
        return scene.level

    def level(self, name: str) -> int:
        """Return a scene's level as it was chosen last."""
        return self._scenes[name].level

    def levels(self) -> dict[str, int]:
        """Return every scene's level as of now."""
        self._relax(self._clock())
        return {name: scene.level for name, scene in self._scenes.items()}

    def _relax(self, now: float) -> None:
        for scene in self._scenes.values():
            if scene.level:
                others = sum(each.load(each.level) for each in self._scenes.values() if each is not scene)
                scene.fall(now, _FALL_LOAD * self._threads - others)

"""What a scene does under more load than it can answer in full, step by step."""

from __future__ import annotations

from dataclasses import dataclass

from bowerbird.declare.columns import Location, located


@dataclass(frozen=True)
class FewerCandidates:
    """Step: score the first ``keep`` candidates (of a recommendation: the best recalled) and leave the others out."""

    keep: int
    location: Location = located()


@dataclass(frozen=True)
class CheaperModel:
    """Step: answer by the live version of the model ``name``, which is not used otherwise."""

    name: str
    location: Location = located()


@dataclass(frozen=True)
class Popularity:
    """Step: rank by the scene's ``Popular`` channel, without a model."""

    location: Location = located()


DegradationStep = FewerCandidates | CheaperModel | Popularity

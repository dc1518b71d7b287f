"""A project: everything that a user declares, in one object, and its folder on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bowerbird.declare.columns import Entity, Location, located
from bowerbird.declare.expressions import FeatureExpression
from bowerbird.declare.records import Event, Exposure, Source, Table
from bowerbird.declare.scenes import Label, Scene


@dataclass(frozen=True)
class Project:
    """Entities, events, tables, features, labels and scenes of one app.

    ``fit_until`` (ISO 8601) bounds the records that fitted transforms may see; samples begin there, so
    that no transform knows the future of a sample. It is only needed where a transform is fitted on an
    aggregate or on records with times: without it, transforms are fitted on what precedes the first
    exposure.
    """

    name: str
    exposure: Exposure
    item: Entity
    user: Entity
    events: Sequence[Event] = ()
    tables: Sequence[Table] = ()
    features: Mapping[str, FeatureExpression] = field(default_factory=dict)
    labels: Sequence[Label] = ()
    scenes: Sequence[Scene] = ()
    sources: Sequence[Source] = ()
    fit_until: str | None = None
    location: Location = located()

    @property
    def record_types(self) -> list[Event | Table]:
        """Every kind of record in the log: the exposure, the other events, the tables."""
        return [self.exposure, *self.events, *self.tables]

"""Every mistake in a project's declarations, with file and line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from bowerbird.declare.columns import ColumnRef, ColumnType, Entity, Location, VectorType
from bowerbird.declare.degradation import CheaperModel, FewerCandidates, Popularity
from bowerbird.declare.durations import microseconds
from bowerbird.declare.project import Project
from bowerbird.declare.records import Action, Event, EventFilter, FilteredEvent, Source, Table
from bowerbird.declare.scenes import CoVisitation, Label, Popular, Scene
from bowerbird.errors import DeclarationError, Problem
from bowerbird.plan.catalog import Catalog
from bowerbird.plan.compiler import PlanCompiler
from bowerbird.plan.mistake import Mistake, nearest

_RESERVED = ("slate_id", "position_id", "type", "id", "time")
_UNITS = ("s", "ms", "us", "ns", "text")
_WIDEST = 4096


def check(project: Project) -> list[Problem]:
    """Return every mistake found; an empty list means that the project compiles."""
    checker = _Checker(project)
    checker.run()
    compiler = PlanCompiler(project)
    compiler.compile()
    return _unique([*checker.problems, *compiler.problems])


def require_valid(project: Project) -> None:
    """Raise DeclarationError with every mistake, if there is one."""
    problems = check(project)
    if problems:
        raise DeclarationError(problems)


def _unique(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(set(problems), key=lambda problem: (problem.file, problem.line, problem.what))


class _Checker:
    """Walks the declarations that no feature refers to, too."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.catalog = Catalog(project)
        self.problems: list[Problem] = []

    def run(self) -> None:
        """Check every declaration; ``problems`` holds what was found."""
        self._names()
        for record in self.project.record_types:
            self._attempt(lambda record=record: self._record(record))  # type: ignore[misc]
        for label in self.project.labels:
            self._attempt(lambda label=label: self._label(label))  # type: ignore[misc]
        for scene in self.project.scenes:
            self._attempt(lambda scene=scene: self._scene(scene))  # type: ignore[misc]
        for source in self.project.sources:
            self._attempt(lambda source=source: self._source(source))  # type: ignore[misc]
            for action in source.actions:
                self._attempt(lambda source=source, action=action: self._action(source, action))  # type: ignore[misc]

    def _attempt(self, checks: Callable[[], None]) -> None:
        try:
            checks()
        except Mistake as mistake:
            self.problems.append(mistake.problem)

    def _names(self) -> None:
        groups: list[tuple[str, list[tuple[str, Location]]]] = [
            ("record", [(record.name, record.location) for record in self.project.record_types]),
            ("label", [(label.name, label.location) for label in self.project.labels]),
            ("scene", [(scene.name, scene.location) for scene in self.project.scenes]),
            ("source", [(source.name, source.location) for source in self.project.sources]),
        ]
        for kind, named in groups:
            counted = Counter(name for name, _ in named)
            for name, location in named:
                self._attempt(lambda n=name, at=location, k=kind, c=counted: _check_name(n, at, k, c[n]))  # type: ignore[misc]

    def _record(self, record: Event | Table) -> None:
        _duration(record.delay, record.location)
        columns: Mapping[str, object] = record.columns
        for name, column in columns.items():
            if not isinstance(column, ColumnType | VectorType | Entity):
                remedy = "Use TEXT, INTEGER, NUMBER, FLAG, an entity, or VECTOR(width) in a table."
                raise Mistake(record.location, f"Column {name!r} of {record.name!r} has no type.", remedy)
            if isinstance(column, VectorType):
                _check_vector(name, column, record)
            if name in _RESERVED or name.startswith("_"):
                raise Mistake(record.location, f"Column name {name!r} is reserved.", "Give it another name.")
            if isinstance(record, Event) and name in {entity.name for entity in record.entities}:
                raise Mistake(
                    record.location, f"{name!r} is an entity and a column of {record.name!r}.", "Drop one."
                )
        if isinstance(record, Event):
            self._event(record)

    def _event(self, event: Event) -> None:
        if self.project.user.name not in {entity.name for entity in event.entities}:
            remedy = f"Every event needs the entity {self.project.user.name!r}."
            raise Mistake(event.location, f"{event.name!r} does not say whose it is.", remedy)
        if event.lateness is not None:
            _duration(event.lateness, event.location)
        if event.beyond not in ("apply", "reject"):
            what = f"Event {event.name!r} has beyond={event.beyond!r}."
            raise Mistake(event.location, what, 'It is "apply" or "reject".')
        if event.beyond == "reject" and event.lateness is None:
            what = f"Event {event.name!r} rejects what is late, and does not say when it is."
            raise Mistake(event.location, what, 'Give lateness="1h", say.')

    def _declared_event(self, events: EventFilter, location: Location) -> Event:
        event = events.event if isinstance(events, FilteredEvent) else events
        if not isinstance(event, Event) or self.catalog.records.get(event.name) is not event:
            name = getattr(event, "name", repr(event))
            raise Mistake(
                location, f"{name!r} is not an event of the project.", nearest(name, self.catalog.records)
            )
        if isinstance(events, FilteredEvent):
            for condition in events.conditions:
                if isinstance(self.catalog.column(condition.column), VectorType):
                    what = f"{condition.column.column!r} is a vector and cannot filter."
                    raise Mistake(condition.location, what, "Filter by a category or a number.")
        return event

    def _label(self, label: Label) -> None:
        event = self._declared_event(label.event, label.location)
        _duration(label.within, label.location)
        if self.project.item.name not in {entity.name for entity in event.entities}:
            raise Mistake(
                label.location, f"{event.name!r} names no {self.project.item.name!r}.", "Label by its events."
            )
        conditions = label.event.conditions if isinstance(label.event, FilteredEvent) else ()
        for condition in conditions:
            if condition.column.of_table or condition.column.column not in event.columns:
                remedy = f"Only columns of {event.name!r} may filter a label."
                raise Mistake(label.location, f"{condition.column.column!r} cannot filter a label.", remedy)
        if label.given is not None and label.given.name not in {other.name for other in self.project.labels}:
            remedy = "Add it to Project(labels=…)."
            raise Mistake(label.location, f"Label {label.given.name!r} is not part of the project.", remedy)

    def _scene(self, scene: Scene) -> None:
        labels = [label.name for label in scene.labels]
        known = [label.name for label in self.project.labels]
        for name in [*labels, *scene.weights]:
            if name not in known:
                raise Mistake(
                    scene.location, f"Scene {scene.name!r}: {name!r} is not a label.", nearest(name, known)
                )
        if not labels:
            raise Mistake(scene.location, f"Scene {scene.name!r} has no labels.", "Name what it predicts.")
        for channel in scene.recall:
            if not isinstance(channel, Popular | CoVisitation):
                raise Mistake(
                    scene.location, f"{channel!r} is not a recall channel.", "Use Popular or CoVisitation."
                )
            self._declared_event(channel.event, channel.location)
            _duration(channel.window, channel.location)
        for events in scene.seen:
            self._declared_event(events, scene.location)
        self._degradation(scene)
        if scene.diversity is not None:
            self._diversity(scene.diversity.attribute, scene.diversity.location)

    def _degradation(self, scene: Scene) -> None:
        if scene.deadline:
            _duration(scene.deadline, scene.location)
        for step in scene.degrade:
            if not isinstance(step, FewerCandidates | CheaperModel | Popularity):
                raise Mistake(
                    scene.location, f"{step!r} is no step.", "Use FewerCandidates, CheaperModel or Popularity."
                )
            if isinstance(step, FewerCandidates) and step.keep < 1:
                raise Mistake(step.location, f"FewerCandidates keeps {step.keep}.", "Keep at least one.")
            if isinstance(step, Popularity) and not any(isinstance(each, Popular) for each in scene.recall):
                what = f"Scene {scene.name!r} has no Popular channel that Popularity could rank by."
                raise Mistake(step.location, what, "Add Popular(…) to its recall, or leave the step out.")

    def _diversity(self, attribute: object, location: Location) -> None:
        if not isinstance(attribute, ColumnRef) or not attribute.of_table:
            raise Mistake(location, "Diversity needs an attribute of the item.", 'Write `items["brand"]`.')
        if not self.catalog.column_type(attribute).is_category:
            raise Mistake(location, f"{attribute.column!r} is not a category.", "Diversify by one.")
        table = self.catalog.records[attribute.owner]
        if isinstance(table, Table) and table.entity.name != self.project.item.name:
            raise Mistake(
                location, f"{attribute.owner!r} does not describe the item.", "Use one of its attributes."
            )

    def _source(self, source: Source) -> None:
        record = self.catalog.records.get(source.record.name)
        if record is not source.record:
            remedy = nearest(source.record.name, self.catalog.records)
            raise Mistake(source.location, f"Source {source.name!r} fills no record of the project.", remedy)
        names = [*record.columns, *_entities(record)]
        for name in source.columns:
            if name not in names:
                raise Mistake(source.location, f"{record.name!r} has no {name!r}.", nearest(name, names))
        if isinstance(record, Event) and source.time is None:
            raise Mistake(source.location, f"Source {source.name!r} has no time.", "Give time=Timestamp(…).")
        if isinstance(record, Event) and source.id is None and not source.key:
            remedy = "Give id= (a column with unique ids) or key= (columns that identify a row)."
            raise Mistake(source.location, f"Rows of source {source.name!r} have no identity.", remedy)
        for timestamp in (source.time, source.available):
            if timestamp is not None and timestamp.unit not in _UNITS:
                remedy = f"Use one of {', '.join(_UNITS)}."
                raise Mistake(timestamp.location, f"{timestamp.unit!r} is not a unit.", remedy)
        if source.delay is not None:
            _duration(source.delay, source.location)
        if source.delay is not None and source.available is not None:
            what = f"Source {source.name!r} has both delay= and available=."
            raise Mistake(source.location, what, "Give one of them.")

    def _action(self, source: Source, action: Action) -> None:
        event = self._declared_event(action.event, action.location)
        names = [*event.columns, *_entities(event)]
        for name in action.columns:
            if name not in names:
                raise Mistake(action.location, f"{event.name!r} has no {name!r}.", nearest(name, names))
        if action.time is not None and action.after is not None:
            raise Mistake(action.location, "An action has both time= and after=.", "Give one of them.")
        if action.after is not None and action.after[1] not in _UNITS[:-1]:
            raise Mistake(
                action.location,
                f"{action.after[1]!r} is not a unit.",
                f"Use one of {', '.join(_UNITS[:-1])}.",
            )


def _entities(record: Event | Table) -> list[str]:
    return [record.entity.name] if isinstance(record, Table) else [entity.name for entity in record.entities]


def _check_vector(name: str, column: VectorType, record: Event | Table) -> None:
    if isinstance(record, Event):
        what = f"Column {name!r} of event {record.name!r} is a vector."
        raise Mistake(record.location, what, "Only tables hold vectors: make it an attribute of an entity.")
    if not isinstance(column.width, int) or not 1 <= column.width <= _WIDEST:
        what = f"Column {name!r} of {record.name!r} is a vector of width {column.width!r}."
        raise Mistake(record.location, what, f"Use 1 to {_WIDEST}.")


def _check_name(name: str, location: Location, kind: str, times: int) -> None:
    if not isinstance(name, str) or not name.replace("_", "a").isalnum():
        raise Mistake(
            location, f"{name!r} is not a name for a {kind}.", "Use letters, digits and underscores."
        )
    if times > 1:
        raise Mistake(location, f"There are {times} {kind}s named {name!r}.", "Give each its own name.")


def _duration(text: str, location: Location) -> None:
    try:
        microseconds(text)
    except ValueError as error:
        raise Mistake(location, f"{error}.", 'Write "30m" or "7d".') from error

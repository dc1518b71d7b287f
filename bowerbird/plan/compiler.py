"""From declared features to a plan: every operation becomes nodes of one read program."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

import msgspec

from bowerbird.declare import expressions as f
from bowerbird.declare.columns import ColumnType, KeyPart, Location
from bowerbird.declare.project import Project
from bowerbird.errors import DeclarationError, Problem
from bowerbird.plan.aggregates import AggregateBuilder, key_part_of
from bowerbird.plan.catalog import Catalog
from bowerbird.plan.mistake import Mistake
from bowerbird.plan.spec import Feature, Fit, Node, Path, Plan, SequenceField, Stage
from bowerbird.plan.zones import transitions


def compile_plan(project: Project) -> Plan:
    """Return the project's unfitted plan; raises DeclarationError with every mistake found."""
    compiler = PlanCompiler(project)
    plan = compiler.compile()
    if compiler.problems:
        raise DeclarationError(compiler.problems)
    return plan


class PlanCompiler:
    """Compiles one project; ``problems`` collects one mistake per feature."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.problems: list[Problem] = []
        self._catalog = Catalog(project)
        self._aggregates = AggregateBuilder(self._catalog)
        self._nodes: list[Node] = []
        self._node_index: dict[bytes, int] = {}
        self._fits: dict[int, Fit] = {}
        self._compilers: dict[type, Callable[[Any], int]] = {
            f.Category: self._category,
            f.Cross: self._cross,
            f.Hour: lambda e: self._calendar(e, "hour"),
            f.Weekday: lambda e: self._calendar(e, "weekday"),
            f.Bucketise: self._bucketise,
            f.Number: self._number,
            f.Aggregate: self._aggregate,
            f.Rate: self._rate,
            f.Since: self._since,
            f.Age: self._age,
            f.Match: self._match,
            f.Transform: self._transform,
            f.Standardise: self._standardise,
            f.Combine: self._combine,
            f.SequenceOf: self._sequence,
        }

    def compile(self) -> Plan:
        """Return the plan of every feature that compiles; look at ``problems`` before using it."""
        compiled = [self._feature(name, expression) for name, expression in self.project.features.items()]
        features = [feature for feature in compiled if feature is not None]
        return Plan(
            project=self.project.name,
            slots=self._catalog.slots,
            types=self._catalog.record_types(),
            families=self._aggregates.families,
            aggregates=self._aggregates.aggregates,
            nodes=self._nodes,
            features=features,
            item_slot=self._catalog.slot_named(self.project.item.name, self.project.item.id),
            user_slot=self._catalog.slot_named(self.project.user.name, self.project.user.id),
            fits=list(self._fits.values()),
            fit_until=self._fit_until(),
        )

    def _fit_until(self) -> int | None:
        if self.project.fit_until is None:
            return None
        try:
            instant = datetime.fromisoformat(self.project.fit_until)
        except ValueError as error:
            location = self.project.location
            remedy = "Write ISO 8601, such as 2024-05-01T00:00:00+00:00."
            self.problems.append(Problem(location.file, location.line, f"fit_until: {error}.", remedy))
            return None
        return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1_000_000)

    def _feature(self, name: str, expression: f.FeatureExpression) -> Feature | None:
        try:
            _check_name(name, self.project.location)
            node = self._compile(expression)
        except Mistake as mistake:
            problem = mistake.problem
            self.problems.append(
                Problem(problem.file, problem.line, f"Feature {name!r}: {problem.what}", problem.remedy)
            )
            return None
        stage = self._nodes[node].stage
        if isinstance(expression, f.SequenceOf):
            return Feature(
                name, "sequence", stage, node, length=expression.length, fields=self._fields(expression)
            )
        if self._nodes[node].is_category:
            return Feature(name, "category", stage, node, vocabulary=self._vocabulary(name, expression))
        return Feature(name, "number", stage, node)

    def _fields(self, expression: f.SequenceOf) -> list[SequenceField]:
        fields = []
        for part in expression.fields:
            is_category = self._catalog.part_type(part).is_category
            vocabulary = self._catalog.vocabulary(part) if is_category else ""
            fields.append(SequenceField(self._catalog.name(part), is_category, vocabulary))
        return fields

    def _vocabulary(self, name: str, expression: f.FeatureExpression) -> str:
        return self._catalog.vocabulary(expression.value) if isinstance(expression, f.Category) else name

    def _compile(self, expression: f.FeatureExpression) -> int:
        compiler = self._compilers.get(type(expression))
        if compiler is None:
            location = getattr(expression, "location", self.project.location)
            remedy = "Use an operation of bowerbird.declare, such as category(...) or count(...)."
            raise Mistake(location, f"{expression!r} is not a feature.", remedy)
        return compiler(expression)

    def _number_input(self, expression: f.FeatureExpression, location: Location) -> int:
        node = self._compile(expression)
        if self._nodes[node].is_category or self._nodes[node].op == "sequence":
            raise Mistake(
                location, "This operation takes a number.", "Give number(...), count(...), rate(...), …."
            )
        return node

    def _node(self, op: str, stage: Stage, is_category: bool, **parts: Any) -> int:
        node = Node(op, stage, is_category, **parts)
        return self._append(node, msgspec.json.encode(node))

    def _append(self, node: Node, identity: bytes) -> int:
        if identity not in self._node_index:
            self._node_index[identity] = len(self._nodes)
            self._nodes.append(node)
        return self._node_index[identity]

    def _stage(self, inputs: list[int]) -> Stage:
        stages = {self._nodes[index].stage for index in inputs}
        if stages <= {"request"}:
            return "request"
        return "item" if stages == {"item"} else "pair"

    def _path(self, path: Path, is_category: bool) -> int:
        return self._node("value", self._catalog.stage(path), is_category, path=path)

    def _part(self, part: KeyPart, location: Location) -> int:
        path = self._catalog.path(part, self.project.exposure, location)
        return self._path(path, self._catalog.part_type(part).is_category)

    def _category(self, expression: f.Category) -> int:
        part = key_part_of(expression.value, expression.location)
        if self._catalog.part_type(part) is ColumnType.NUMBER:
            remedy = "Use number(...).bucketise(...), or declare the column TEXT or INTEGER."
            raise Mistake(
                expression.location, f"{self._catalog.name(part)!r} is a NUMBER, not a category.", remedy
            )
        return self._part(part, expression.location)

    def _number(self, expression: f.Number) -> int:
        part = key_part_of(expression.value, expression.location)
        if self._catalog.part_type(part) is not ColumnType.NUMBER:
            remedy = "Use category(...), or declare the column NUMBER."
            raise Mistake(expression.location, f"{self._catalog.name(part)!r} is not a NUMBER.", remedy)
        return self._part(part, expression.location)

    def _cross(self, expression: f.Cross) -> int:
        inputs = [self._compile(part) for part in expression.inputs]
        if len(inputs) < 2 or not all(self._nodes[index].is_category for index in inputs):
            raise Mistake(
                expression.location, "cross takes two or more categories.", "Bucketise numbers first."
            )
        return self._node("cross", self._stage(inputs), True, inputs=inputs)

    def _calendar(self, expression: f.Hour | f.Weekday, op: str) -> int:
        try:
            instants, offsets = transitions(expression.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            remedy = "Use an IANA name such as Asia/Shanghai."
            raise Mistake(
                expression.location, f"{expression.timezone!r} is not a time zone.", remedy
            ) from error
        return self._node(op, "request", True, instants=list(instants), offsets=list(offsets))

    def _read(
        self, aggregate: int, by: tuple[KeyPart, ...], what: str, location: Location, op: str = "read"
    ) -> int:
        inputs = []
        for part in by:
            if not self._catalog.part_type(part).is_category:
                raise Mistake(
                    location, f"{self._catalog.name(part)!r} is a NUMBER, not a key.", "Key by a category."
                )
            inputs.append(self._part(part, location))
        return self._node(op, self._stage(inputs), False, inputs=inputs, aggregate=aggregate, what=what)

    def _aggregate(self, expression: f.Aggregate) -> int:
        aggregate = self._aggregates.windowed(
            expression.events,
            expression.by,
            expression.window,
            expression.value,
            expression.scale if expression.value is not None else 1,
            expression.location,
        )
        return self._read(aggregate, expression.by, expression.what, expression.location)

    def _rate(self, expression: f.Rate) -> int:
        if expression.strength < 0:
            raise Mistake(
                expression.location, f"strength {expression.strength} is negative.", "Give 0 or more."
            )
        inputs = [self._aggregate(expression.numerator), self._aggregate(expression.denominator)]
        numbers = [float(expression.prior), float(expression.strength)]
        return self._node("rate", self._stage(inputs), False, inputs=inputs, numbers=numbers)

    def _since(self, expression: f.Since) -> int:
        aggregate = self._aggregates.last(expression.events, expression.by, expression.location)
        return self._read(aggregate, expression.by, "since", expression.location)

    def _age(self, expression: f.Age) -> int:
        source = self._number(f.Number(expression.value, location=expression.location))
        return self._node("age", self._nodes[source].stage, False, inputs=[source])

    def _sequence(self, expression: f.SequenceOf) -> int:
        aggregate = self._aggregates.sequence(
            expression.events, expression.by, expression.length, expression.fields, expression.location
        )
        return self._read(aggregate, expression.by, "", expression.location, op="sequence")

    def _match(self, expression: f.Match) -> int:
        if expression.what not in ("count", "fraction", "since"):
            remedy = "It is count, fraction or since."
            raise Mistake(expression.location, f"match has no {expression.what!r}.", remedy)
        names = [self._catalog.name(part) for part in expression.source.fields]
        name = self._catalog.name(expression.field)
        if name not in names:
            remedy = f"Its fields are: {', '.join(names)}."
            raise Mistake(expression.location, f"The sequence has no field {name!r}.", remedy)
        if not self._catalog.part_type(expression.field).is_category:
            raise Mistake(expression.location, f"{name!r} is a NUMBER and cannot match.", "Match a category.")
        inputs = [self._sequence(expression.source), self._part(expression.candidate, expression.location)]
        field = names.index(name)
        return self._node(
            "match", self._stage(inputs), False, inputs=inputs, field=field, what=expression.what
        )

    def _transform(self, expression: f.Transform) -> int:
        source = self._number_input(expression.input, expression.location)
        numbers = list(expression.parameters)
        return self._node(
            expression.function, self._nodes[source].stage, False, inputs=[source], numbers=numbers
        )

    def _combine(self, expression: f.Combine) -> int:
        inputs = [
            self._number_input(side, expression.location) for side in (expression.left, expression.right)
        ]
        return self._node(expression.function, self._stage(inputs), False, inputs=inputs)

    def _standardise(self, expression: f.Standardise) -> int:
        source = self._number_input(expression.input, expression.location)
        node = self._node("affine", self._nodes[source].stage, False, inputs=[source], numbers=[])
        self._fits[node] = Fit(node, source, "moments")
        return node

    def _bucketise(self, expression: f.Bucketise) -> int:
        source = self._number_input(expression.input, expression.location)
        stage = self._nodes[source].stage
        if expression.boundaries:
            if sorted(set(expression.boundaries)) != list(expression.boundaries):
                raise Mistake(expression.location, "boundaries do not ascend.", "Sort them and drop repeats.")
            return self._node(
                "bucketise", stage, True, inputs=[source], numbers=[float(b) for b in expression.boundaries]
            )
        if not 2 <= expression.quantiles <= 10_000:
            remedy = "Give quantiles=2…10000 or boundaries=[…]."
            raise Mistake(expression.location, f"{expression.quantiles} quantiles are not possible.", remedy)
        unfitted = Node("bucketise", stage, True, inputs=[source])
        node = self._append(unfitted, msgspec.json.encode((unfitted, expression.quantiles)))
        self._fits[node] = Fit(node, source, "quantiles", expression.quantiles)
        return node


def _check_name(name: str, location: Location) -> None:
    if not isinstance(name, str) or not name.replace("_", "a").isalnum():
        raise Mistake(location, f"{name!r} is not a feature name.", "Use letters, digits and underscores.")

"""From expressions to nodes: one method per operation that a user can declare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as File
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

from bowerbird.declare import expressions as f
from bowerbird.declare.columns import ColumnType, KeyPart, Location, VectorType
from bowerbird.declare.project import Project
from bowerbird.errors import BowerbirdError
from bowerbird.plan.aggregates import AggregateBuilder, key_part_of
from bowerbird.plan.catalog import Catalog
from bowerbird.plan.feeds import number_value, value_key
from bowerbird.plan.functions import digest_of, load_function
from bowerbird.plan.mistake import Mistake
from bowerbird.plan.nodes import Nodes
from bowerbird.plan.spec import Fixed, Function, Path
from bowerbird.plan.zones import transitions

_NOT_NUMBERS = ("sequence", "top", "vector", "function")


class Operations:
    """Compiles the expressions of one project into ``nodes``, ``aggregates`` and ``fixed`` inputs."""

    def __init__(self, project: Project, catalog: Catalog) -> None:
        self.nodes = Nodes()
        self.aggregates = AggregateBuilder(catalog)
        self.fixed: dict[int, Fixed] = {}
        self._project = project
        self._catalog = catalog
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
            f.Latest: self._latest,
            f.Bias: self._bias,
            f.Age: self._age,
            f.Match: self._match,
            f.Transform: self._transform,
            f.Standardise: self._standardise,
            f.Combine: self._combine,
            f.SequenceOf: self._sequence,
            f.TopOf: self._top,
            f.Vector: self._vector,
            f.FunctionOf: self._function,
        }

    def compile(self, expression: f.FeatureExpression) -> int:
        """Return the node of an expression; raises Mistake."""
        compiler = self._compilers.get(type(expression))
        if compiler is None:
            location = getattr(expression, "location", self._project.location)
            remedy = "Use an operation of bowerbird.declare, such as category(...) or count(...)."
            raise Mistake(location, f"{expression!r} is not a feature.", remedy)
        return compiler(expression)

    # ---- values ------------------------------------------------------------------------------

    def _path(self, path: Path, is_category: bool) -> int:
        return self.nodes.add("value", self._catalog.stage(path), is_category, path=path)

    def _part(self, part: KeyPart, location: Location) -> int:
        path = self._catalog.path(part, self._project.exposure, location)
        return self._path(path, self._catalog.part_type(part).is_category)

    def _category(self, expression: f.Category) -> int:
        part = key_part_of(expression.value, expression.location)
        kind = self._catalog.part_type(part)
        if not kind.is_category:
            remedy = "Use number(...).bucketise(...), or declare the column TEXT or INTEGER."
            what = f"{self._catalog.name(part)!r} is a {kind.value.upper()}, not a category."
            raise Mistake(expression.location, what, remedy)
        return self._part(part, expression.location)

    def _number(self, expression: f.Number) -> int:
        part = key_part_of(expression.value, expression.location)
        if self._catalog.part_type(part) is not ColumnType.NUMBER:
            remedy = "Use category(...), or declare the column NUMBER."
            raise Mistake(expression.location, f"{self._catalog.name(part)!r} is not a NUMBER.", remedy)
        return self._part(part, expression.location)

    def _age(self, expression: f.Age) -> int:
        source = self._number(f.Number(expression.value, location=expression.location))
        return self.nodes.add("age", self.nodes[source].stage, False, inputs=[source])

    def _calendar(self, expression: f.Hour | f.Weekday, op: str) -> int:
        try:
            instants, offsets = transitions(expression.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            remedy = "Use an IANA name such as Asia/Shanghai."
            raise Mistake(expression.location, f"{expression.timezone!r} is not a time zone.", remedy) from error
        return self.nodes.add(op, "request", True, instants=list(instants), offsets=list(offsets))

    def _vector(self, expression: f.Vector) -> int:
        part = key_part_of(expression.value, expression.location)
        if not isinstance(self._catalog.part_type(part), VectorType):
            remedy = "Declare the table's column as VECTOR(width)."
            raise Mistake(expression.location, f"{self._catalog.name(part)!r} is not a VECTOR.", remedy)
        path = self._catalog.path(part, self._project.exposure, expression.location)
        return self.nodes.add("vector", self._catalog.stage(path), False, path=path)

    def _bias(self, expression: f.Bias) -> int:
        location = expression.location
        slot = self._catalog.bias_slot(expression.value, location)
        fixed = self._fixed(slot, self._catalog.column_type(expression.value), expression.serve, location)
        if self.fixed.setdefault(slot, fixed) != fixed:
            name = expression.value.column
            remedy = "Give one value, and use the expression twice."
            raise Mistake(location, f"{name!r} is served as two different values.", remedy)
        return self._path(Path(slot), self._catalog.column_type(expression.value).is_category)

    def _fixed(self, slot: int, kind: ColumnType | VectorType, serve: object, location: Location) -> Fixed:
        if serve is None:
            return Fixed(slot)
        if kind is ColumnType.NUMBER:
            number = number_value(serve, location)
            return Fixed(slot, number=None if number != number else number)
        return Fixed(slot, key=value_key(serve, kind, location))

    # ---- state -------------------------------------------------------------------------------

    def _read(self, op: str, aggregate: int, by: tuple[KeyPart, ...], location: Location, **parts: Any) -> int:
        inputs = []
        for part in by:
            kind = self._catalog.part_type(part)
            if not kind.is_category:
                what = f"{self._catalog.name(part)!r} is a {kind.value.upper()}, not a key."
                raise Mistake(location, what, "Key by a category.")
            inputs.append(self._part(part, location))
        is_category = parts.pop("is_category", False)
        return self.nodes.add(op, self.nodes.stage(inputs), is_category, inputs=inputs, aggregate=aggregate, **parts)

    def _aggregate(self, expression: f.Aggregate) -> int:
        aggregate = self.aggregates.windowed(expression)
        return self._read("read", aggregate, expression.by, expression.location, what=expression.what)

    def _rate(self, expression: f.Rate) -> int:
        if expression.strength < 0:
            raise Mistake(expression.location, f"strength {expression.strength} is negative.", "Give 0 or more.")
        inputs = [self._aggregate(expression.numerator), self._aggregate(expression.denominator)]
        numbers = [float(expression.prior), float(expression.strength)]
        return self.nodes.add("rate", self.nodes.stage(inputs), False, inputs=inputs, numbers=numbers)

    def _since(self, expression: f.Since) -> int:
        aggregate = self.aggregates.instant(expression)
        return self._read("read", aggregate, expression.by, expression.location, what="since")

    def _latest(self, expression: f.Latest) -> int:
        aggregate = self.aggregates.latest(expression)
        is_category = self._catalog.part_type(expression.value).is_category
        return self._read("latest", aggregate, expression.by, expression.location, field=0, is_category=is_category)

    def _sequence(self, expression: f.SequenceOf) -> int:
        aggregate = self.aggregates.sequence(expression)
        return self._read("sequence", aggregate, expression.by, expression.location)

    def _top(self, expression: f.TopOf) -> int:
        aggregate = self.aggregates.top(expression)
        return self._read("top", aggregate, expression.by, expression.location, length=expression.k)

    def _match(self, expression: f.Match) -> int:
        source, location = expression.source, expression.location
        if expression.what not in ("count", "fraction", "since"):
            remedy = "It is count, fraction or since."
            raise Mistake(location, f"match has no {expression.what!r}.", remedy)
        if not isinstance(source, f.SequenceOf | f.TopOf):
            raise Mistake(location, f"{source!r} is not a sequence.", "Give sequence(...) or top(...).")
        parts = (source.field,) if isinstance(source, f.TopOf) else source.fields
        names = [self._catalog.name(part) for part in parts]
        name = self._catalog.name(expression.field)
        if name not in names:
            kind = "top" if isinstance(source, f.TopOf) else "sequence"
            raise Mistake(location, f"The {kind} has no field {name!r}.", f"Its fields are: {', '.join(names)}.")
        if not self._catalog.part_type(expression.field).is_category:
            raise Mistake(location, f"{name!r} is a NUMBER and cannot match.", "Match a category.")
        candidate = self._category(f.Category(expression.candidate, location=location))
        inputs = [self.compile(source), candidate]
        return self.nodes.add(
            "match",
            self.nodes.stage(inputs),
            False,
            inputs=inputs,
            field=names.index(name),
            what=expression.what,
        )

    # ---- of other features -------------------------------------------------------------------

    def _number_input(self, expression: f.FeatureExpression, location: Location) -> int:
        at = self.compile(expression)
        if self.nodes[at].is_category or self.nodes[at].op in _NOT_NUMBERS:
            remedy = "Give number(...), count(...), rate(...), …."
            raise Mistake(location, "This operation takes a number.", remedy)
        return at

    def _cross(self, expression: f.Cross) -> int:
        inputs = [self.compile(part) for part in expression.inputs]
        if len(inputs) < 2 or not all(self.nodes[at].is_category and self.nodes[at].op != "function" for at in inputs):
            raise Mistake(expression.location, "cross takes two or more categories.", "Bucketise numbers first.")
        return self.nodes.add("cross", self.nodes.stage(inputs), True, inputs=inputs)

    def _transform(self, expression: f.Transform) -> int:
        source = self._number_input(expression.input, expression.location)
        stage, numbers = self.nodes[source].stage, list(expression.parameters)
        return self.nodes.add(expression.function, stage, False, inputs=[source], numbers=numbers)

    def _combine(self, expression: f.Combine) -> int:
        sides = (expression.left, expression.right)
        inputs = [self._number_input(side, expression.location) for side in sides]
        return self.nodes.add(expression.function, self.nodes.stage(inputs), False, inputs=inputs)

    def _standardise(self, expression: f.Standardise) -> int:
        source = self._number_input(expression.input, expression.location)
        return self.nodes.add_unfitted("affine", False, source)

    def _bucketise(self, expression: f.Bucketise) -> int:
        source = self._number_input(expression.input, expression.location)
        if expression.boundaries:
            if sorted(set(expression.boundaries)) != list(expression.boundaries):
                raise Mistake(expression.location, "boundaries do not ascend.", "Sort them and drop repeats.")
            numbers = [float(boundary) for boundary in expression.boundaries]
            return self.nodes.add("bucketise", self.nodes[source].stage, True, inputs=[source], numbers=numbers)
        if not 2 <= expression.quantiles <= 10_000:
            remedy = "Give quantiles=2…10000 or boundaries=[…]."
            raise Mistake(expression.location, f"{expression.quantiles} quantiles are not possible.", remedy)
        return self.nodes.add_unfitted("bucketise", True, source, expression.quantiles)

    def _function(self, expression: f.FunctionOf) -> int:
        location = expression.location
        if expression.output not in ("number", "category"):
            remedy = 'It is "number" or "category".'
            raise Mistake(location, f"A function has no output {expression.output!r}.", remedy)
        if not expression.inputs:
            raise Mistake(location, f"{expression.path!r} has no inputs.", "Name the features that it takes.")
        inputs = [self.compile(part) for part in expression.inputs]
        if any(self.nodes[at].op in _NOT_NUMBERS for at in inputs):
            remedy = "Give it numbers and categories, not sequences, vectors or other functions."
            raise Mistake(location, f"{expression.path!r} cannot take one of its inputs.", remedy)
        function = self._loaded(expression.path, location)
        is_category = expression.output == "category"
        return self.nodes.add("function", self.nodes.stage(inputs), is_category, inputs=inputs, function=function)

    def _loaded(self, path: str, location: Location) -> Function:
        folder = File(self._project.location.file).parent
        try:
            return Function(path, digest_of(load_function(path, folder)))
        except BowerbirdError as error:
            raise Mistake(location, error.what, error.remedy) from error

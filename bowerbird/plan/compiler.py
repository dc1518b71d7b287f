"""From a project's declared features to a plan."""

from __future__ import annotations

from datetime import UTC, datetime

from bowerbird.declare import expressions as f
from bowerbird.declare.columns import KeyPart, Location, VectorType
from bowerbird.declare.project import Project
from bowerbird.errors import DeclarationError, Problem
from bowerbird.plan.catalog import Catalog
from bowerbird.plan.mistake import Mistake
from bowerbird.plan.operations import Operations
from bowerbird.plan.spec import Feature, Plan, SequenceField


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
        self._operations = Operations(project, self._catalog)
        self._nodes = self._operations.nodes

    def compile(self) -> Plan:
        """Return the plan of every feature that compiles; look at ``problems`` before using it."""
        compiled = [self._feature(name, expression) for name, expression in self.project.features.items()]
        features = [feature for feature in compiled if feature is not None]
        aggregates = self._operations.aggregates
        return Plan(
            project=self.project.name,
            slots=self._catalog.slots,
            types=self._catalog.record_types(),
            families=aggregates.families,
            aggregates=aggregates.aggregates,
            nodes=self._nodes.list,
            features=features,
            item_slot=self._catalog.slot_named(self.project.item.name, self.project.item.id),
            user_slot=self._catalog.slot_named(self.project.user.name, self.project.user.id),
            fits=list(self._nodes.fits.values()),
            fit_until=self._fit_until(),
            fixed=list(self._operations.fixed.values()),
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
            return self._compiled(name, expression)
        except Mistake as mistake:
            problem = mistake.problem
            self.problems.append(
                Problem(problem.file, problem.line, f"Feature {name!r}: {problem.what}", problem.remedy)
            )
            return None

    def _compiled(self, name: str, expression: f.FeatureExpression) -> Feature:
        node = self._operations.compile(expression)
        stage = self._nodes[node].stage
        if isinstance(expression, f.SequenceOf):
            fields = [self._field(part) for part in expression.fields]
            return Feature(name, "sequence", stage, node, length=expression.length, fields=fields)
        if isinstance(expression, f.TopOf):
            return Feature(
                name, "sequence", stage, node, length=expression.k, fields=self._top_fields(expression)
            )
        if isinstance(expression, f.Vector):
            kind = self._catalog.column_type(expression.value)
            assert isinstance(kind, VectorType)
            return Feature(name, "vector", stage, node, width=kind.width)
        if self._nodes[node].is_category:
            return Feature(name, "category", stage, node, vocabulary=self._vocabulary(name, expression))
        return Feature(name, "number", stage, node)

    def _field(self, part: KeyPart) -> SequenceField:
        is_category = self._catalog.part_type(part).is_category
        vocabulary = self._catalog.vocabulary(part) if is_category else ""
        return SequenceField(self._catalog.name(part), is_category, vocabulary)

    def _top_fields(self, expression: f.TopOf) -> list[SequenceField]:
        field, counted = self._field(expression.field), SequenceField("count", False)
        if field.name == counted.name:
            remedy = "Give the column another name."
            raise Mistake(expression.location, "A top has a field 'count' of its own.", remedy)
        return [field, counted]

    def _vocabulary(self, name: str, expression: f.FeatureExpression) -> str:
        if isinstance(expression, f.Category | f.Latest | f.Bias):
            return self._catalog.vocabulary(expression.value)
        return name


def _check_name(name: str, location: Location) -> None:
    if not isinstance(name, str) or not name.replace("_", "a").isalnum():
        raise Mistake(location, f"{name!r} is not a feature name.", "Use letters, digits and underscores.")

"""What recall reads from the log, as a feature plan: the same state machine as the model's features.

Popularity is a windowed count by item; a user's history and the items that were seen are sequences by
user; a diversity attribute is the item's category. So they replay, recover and expire as features do.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from bowerbird.declare import features as f
from bowerbird.declare.columns import ColumnRef, Entity
from bowerbird.declare.project import Project
from bowerbird.declare.scenes import CoVisitation, Popular, Scene
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.spec import Plan

SEEN_LIMIT = 500
"""How many of a user's latest seen items are filtered."""


@dataclass(frozen=True)
class SceneFeatures:
    """The names of a scene's features in the recall plan; empty where the scene declares none."""

    seen: str
    diversity: str
    channels: tuple[str, ...]
    popular: str = ""


@dataclass(frozen=True)
class RecallPlan:
    """The plan of every scene's recall, and which feature serves what."""

    plan: Plan
    scenes: dict[str, SceneFeatures]


def recall_plan(project: Project) -> RecallPlan:
    """Return the plan that recall needs; raises DeclarationError where a channel does not compile."""
    features: dict[str, f.FeatureExpression] = {}
    scenes = {}
    for index, scene in enumerate(project.scenes):
        scenes[scene.name] = _scene_features(index, scene, features)
    return RecallPlan(compile_plan(dataclasses.replace(project, features=features, fit_until=None)), scenes)


def _scene_features(index: int, scene: Scene, features: dict[str, f.FeatureExpression]) -> SceneFeatures:
    names = []
    for channel_index, channel in enumerate(scene.recall):
        name = f"scene{index}_channel{channel_index}"
        features[name] = _channel_feature(channel, scene)
        names.append(name)
    seen, diversity = "", ""
    if scene.seen:
        seen = f"scene{index}_seen"
        features[seen] = f.sequence(list(scene.seen), scene.user, SEEN_LIMIT, [scene.item])
    if scene.diversity is not None:
        diversity = f"scene{index}_diversity"
        attribute = scene.diversity.attribute
        assert isinstance(attribute, ColumnRef | Entity)
        features[diversity] = f.category(attribute)
    popular = next((name for name, each in zip(names, scene.recall, strict=True) if isinstance(each, Popular)), "")
    return SceneFeatures(seen, diversity, tuple(names), popular)


def _channel_feature(channel: Popular | CoVisitation, scene: Scene) -> f.FeatureExpression:
    if isinstance(channel, Popular):
        return f.count(channel.event, scene.item, channel.window)
    return f.sequence(channel.event, scene.user, channel.history, [scene.item])

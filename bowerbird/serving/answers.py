"""What was answered becomes a slate of the log."""

from __future__ import annotations

from collections.abc import Sequence

from bowerbird.log.slate_id import new_slate_id
from bowerbird.serving.ranker import Scored
from bowerbird.serving.slate import Slate, SlateKind


def slate_of(scored: Scored, scene: str, kind: SlateKind, shown: Sequence[int] = ()) -> Slate:
    """Return the slate of an answer, with a new id; ``shown`` are positions among its candidates."""
    question = scored.question
    lsn = scored.features.lsn
    return Slate(
        slate_id=new_slate_id(lsn, scored.time),
        kind=kind,
        lsn=lsn,
        time=scored.time,
        scene=scene,
        user=question.user,
        context=dict(question.context),
        candidates=list(question.candidates),
        model=scored.model.name,
        version=scored.model.version,
        plan=scored.model.plan_fingerprint,
        features=scored.features,
        scores=scored.scores,
        ranking=scored.ranking,
        given=dict(question.given),
        candidate_given={position: dict(values) for position, values in question.by_candidate.items()},
        shown=list(shown),
        way=scored.model.way,
        host=scored.model.host,
        delta=scored.model.delta,
    )

"""Calibrations fitted on validation, of which the one is kept that predicts best out of fold.

What can be chosen, or forced by name, in the order in which a simpler one is preferred:

* ``identity``: the logistic function alone;
* ``shift``: an intercept;
* ``platt``: slope and intercept (Platt, 1999);
* ``isotonic``: a step-wise rising function (Zadrozny and Elkan, 2002);
* ``monotone``: a smooth rising function;
* ``platt:FIELD``: ``platt`` with a shift for each key of a category feature, shrunk to the global one;
* ``monotone:FIELD``: a small monotone network of the logit and the feature.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from bowerbird.bundles.calibrate import Calibration, Identity, Isotonic, Platt, calibrate
from bowerbird.errors import InputError
from bowerbird.plan.block import Keys
from bowerbird.training.calibration.by_field import fit_platt_by_field
from bowerbird.training.calibration.monotone import fit_monotone
from bowerbird.training.calibration.overall import fit_isotonic, fit_platt, fit_shift
from bowerbird.training.quality.metrics import Floats, likelihood_losses

AUTOMATIC = "auto"
_GLOBAL = ("shift", "platt", "isotonic", "monotone")
_BY_FIELD = ("platt", "monotone")
_FOLDS = 5
_FEWEST = 20
"""With fewer samples of either class nothing is fitted."""
_FEWEST_BY_FIELD = 200
"""With fewer samples of either class calibrations by field are not tried."""
_MOST_KEYS = 1000
"""A category feature with more keys on validation is not tried."""
_TRIED = 3
"""Cross-fitted are so many fields, those whose keys leave the most unexplained."""
_MARGIN = 1e-4
"""How much log loss (nats) a richer calibration must save to be preferred."""
_ONE_SIDED = 0.025
"""How probable it may be that what a richer calibration saves is chance; shared by the fields that are tried."""

Array = npt.NDArray[np.float64]
_FITTERS: dict[str, Callable[[Array, Array, Array], Platt | Isotonic]] = {
    "shift": fit_shift,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}


@dataclass(frozen=True)
class CalibrationRows:
    """Mature samples of one task: float64 [rows], ``user`` and ``categories`` uint64 [rows]."""

    logit: Array
    label: Array
    weight: Array
    user: Keys
    categories: Mapping[str, Keys] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, chosen: npt.NDArray[np.bool_], fields: Collection[str]) -> CalibrationRows:
        """Return some rows, with some of the category features."""
        categories = {name: self.categories[name][chosen] for name in fields}
        return CalibrationRows(
            self.logit[chosen], self.label[chosen], self.weight[chosen], self.user[chosen], categories
        )


def fit_calibration(
    logits: Floats,
    labels: Floats,
    weight: Floats,
    user: Keys,
    *,
    categories: Mapping[str, Keys] | None = None,
    method: str = AUTOMATIC,
    trained_weight: Floats | None = None,
) -> Calibration:
    """Return the calibration with the least cross-fitted log loss, fitted on all mature samples.

    A user's samples share a fold. A richer calibration is preferred where it saves more than a margin of log loss
    and more than chance would between users; one by a field, more than chance would with so many fields.
    ``categories`` are the category features that may be calibrated by, uint64 [rows] each. ``method`` forces one by
    name. ``trained_weight`` is what the model was trained with, where ``weight`` corrects for negatives that were
    left out: with too few positives to fit anything, the logits are shifted by what is known of the down-sampling.
    Raises InputError for an unknown method or field.
    """
    mature = ~np.isnan(labels)
    fields = {name: keys[mature] for name, keys in (categories or {}).items()}
    check_method(method, fields)
    values = [column[mature].astype(np.float64) for column in (logits, labels, weight)]
    rows = CalibrationRows(values[0], values[1], values[2], user[mature], fields)
    if method == "identity" or min(rows.label.sum(), (1 - rows.label).sum()) < _FEWEST:
        return _known_shift(rows, None if trained_weight is None else trained_weight[mature])
    return fit_named(rows, _choose(rows) if method == AUTOMATIC else method)


def check_method(method: str, fields: Mapping[str, Keys]) -> None:
    """Raise InputError unless ``method`` is ``auto`` or names a calibration, and its field is among ``fields``."""
    kind, _, name = method.partition(":")
    if method in (AUTOMATIC, "identity", *_GLOBAL) or (kind in _BY_FIELD and name in fields):
        return
    if kind in _BY_FIELD and name:
        raise InputError(
            f"Calibration {method!r} asks for a category feature {name!r}, which is not there.",
            f"The category features: {', '.join(sorted(fields)) or 'none'}.",
        )
    raise InputError(
        f"There is no calibration {method!r}.",
        f"Choose {AUTOMATIC}, identity, {', '.join(_GLOBAL)}, platt:FIELD or monotone:FIELD.",
    )


def fit_named(rows: CalibrationRows, name: str) -> Calibration:
    """Return the calibration of a name fitted on all rows."""
    kind, _, chosen = name.partition(":")
    columns = (rows.logit, rows.label, rows.weight)
    if chosen and kind == "platt":
        return fit_platt_by_field(*columns, rows.categories[chosen], chosen)
    if kind == "monotone":
        return fit_monotone(*columns, rows.categories.get(chosen), chosen)
    return _FITTERS[kind](*columns)


def _choose(rows: CalibrationRows) -> str:
    chosen, losses = "shift", _cross_fitted_losses(rows, "shift")
    for name in ("platt", "isotonic", "monotone"):
        chosen, losses = _better(rows, chosen, losses, name, _ONE_SIDED)
    fields = _eligible(rows)
    if not fields:
        return chosen
    chance = calibrate(fit_platt(rows.logit, rows.label, rows.weight), rows.logit)
    tried = sorted(fields, key=lambda name: _unexplained(rows, chance, name), reverse=True)[:_TRIED]
    by_field = {f"platt:{name}": _cross_fitted_losses(rows, f"platt:{name}") for name in tried}
    best = min(by_field, key=lambda name: _mean(rows, by_field[name]))
    if _saves(rows, losses, by_field[best], _ONE_SIDED / len(fields)):
        chosen, losses = best, by_field[best]
        chosen, losses = _better(rows, chosen, losses, f"monotone:{best.partition(':')[2]}", _ONE_SIDED)
    return chosen


def _better(rows: CalibrationRows, chosen: str, losses: Array, name: str, chance: float) -> tuple[str, Array]:
    other = _cross_fitted_losses(rows, name)
    return (name, other) if _saves(rows, losses, other, chance) else (chosen, losses)


def _saves(rows: CalibrationRows, losses: Array, other: Array, chance: float) -> bool:
    """Say whether ``other`` saves more than the margin, and more than users' differences would by chance."""
    if not np.isfinite(other).all():
        return False
    if not np.isfinite(losses).all():
        return True
    saved = rows.weight * (losses - other) / rows.weight.sum()
    mean = saved.sum()
    owner = np.unique(rows.user, return_inverse=True)[1]
    by_user = np.bincount(owner, saved - mean * rows.weight / rows.weight.sum())
    error = np.sqrt((by_user**2).sum())
    return bool(mean > _MARGIN and mean > NormalDist().inv_cdf(1 - chance) * error)


def _mean(rows: CalibrationRows, losses: Array) -> float:
    return float((rows.weight * losses).sum() / rows.weight.sum())


def _eligible(rows: CalibrationRows) -> list[str]:
    if min(rows.label.sum(), (1 - rows.label).sum()) < _FEWEST_BY_FIELD:
        return []
    return [name for name, keys in rows.categories.items() if 1 < len(np.unique(keys)) <= _MOST_KEYS]


def _unexplained(rows: CalibrationRows, chance: Array, name: str) -> float:
    """Return what a field's keys may explain beyond predictions ``chance``: chi-square less its degrees of freedom."""
    place = np.unique(rows.categories[name], return_inverse=True)[1]
    residual = np.bincount(place, rows.weight * (rows.label - chance))
    variance = np.bincount(place, rows.weight**2 * chance * (1 - chance))
    known = variance > 0
    return float((residual[known] ** 2 / variance[known]).sum() - known.sum())


def _cross_fitted_losses(rows: CalibrationRows, name: str) -> Array:
    """Return each row's log loss under the calibration fitted without its fold; infinite where it cannot be fitted."""
    fold = rows.user % np.uint64(_FOLDS)
    fields = [name.partition(":")[2]] if ":" in name else []
    losses = np.full(len(rows), np.inf)
    for held in range(_FOLDS):
        out = fold == held
        inside = rows.take(~out, fields)
        if out.all() or not 0 < inside.label.sum() < len(inside):
            return losses
        held_rows = rows.take(out, fields)
        predicted = calibrate(fit_named(inside, name), held_rows.logit, held_rows.categories)
        losses[out] = likelihood_losses(held_rows.label, predicted)
    return losses


def _known_shift(rows: CalibrationRows, trained_weight: Floats | None) -> Calibration:
    """Return what is known without fitting: negatives that the model saw less of than there are lower the logit.

    The odds that a model learns are too high by the share of negatives left out (King and Zeng, 2001).
    """
    negative = rows.label == 0
    corrected = float(rows.weight[negative].sum())
    if trained_weight is None or not corrected > 0:
        return Identity()
    seen = float(trained_weight.astype(np.float64)[negative].sum())
    return Identity() if seen == corrected or not seen > 0 else Platt(1.0, float(np.log(seen / corrected)))

"""The best test AUC on Frappe: finished runs whose mean logit is best on validation, added one at a time.

    python -m bench.training.frappe_best           # after bench.training.frappe

Members are chosen on the official validation rows alone (Caruana et al., 2004: greedy, with repetition, until
validation no longer gains); the official test rows are looked at once, for what was chosen.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from bench.common import WORK, Row, write
from bench.training.frappe_data import CAVEAT, frappe_samples
from bowerbird.bundles.calibrate import logistic
from bowerbird.samples.columns import SPLIT_DATES
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.split import DateRange
from bowerbird.training.quality.held_out import HeldOut, score_range
from bowerbird.training.quality.metrics import auc, log_loss
from bowerbird.training.run_record import list_runs
from bowerbird.training.trained import load_trained

Logits = npt.NDArray[np.float64]
_PUBLISHED_BEST = 0.9861
_MOST = 12


def _area(held: HeldOut, logits: Logits) -> float:
    return auc(held.labels["label"].astype(np.float64), logits, held.weight.astype(np.float64))


def _choose(held: HeldOut, logits: dict[str, Logits]) -> list[str]:
    chosen: list[str] = []
    total, best = np.zeros(len(held.weight)), 0.0
    while len(chosen) < _MOST:
        values = {name: _area(held, total + one) for name, one in logits.items()}
        name = max(values, key=values.__getitem__)
        if values[name] <= best + 1e-6:
            break
        best, total = values[name], total + logits[name]
        chosen.append(name)
    return chosen


def main() -> None:
    samples = SampleFolder(frappe_samples())
    folder = WORK / "frappe" / "runs"
    held: dict[str, HeldOut] = {}
    logits: dict[str, dict[str, Logits]] = {"validation": {}, "test": {}}
    models: dict[str, str] = {}
    for record in list_runs(folder):
        if record.status != "done":
            continue
        model = load_trained(folder / record.id, samples.plan, record.settings)
        models[record.id] = f"{record.settings.model} seed {record.settings.seed}"
        for part in logits:
            day = SPLIT_DATES[part]
            held[part] = score_range(samples, DateRange(day, day), model)
            logits[part][record.id] = held[part].logits["label"].astype(np.float64)
    areas = {name: _area(held["validation"], one) for name, one in logits["validation"].items()}
    single = max(areas, key=areas.__getitem__)
    chosen = _choose(held["validation"], logits["validation"])
    rows = []
    for case, members in (("best single run", [single]), ("best blend", chosen)):
        scores = {part: np.mean([logits[part][name] for name in members], axis=0) for part in logits}
        test = held["test"]
        value = _area(test, scores["test"])
        label, weight = test.labels["label"].astype(np.float64), test.weight.astype(np.float64)
        loss = log_loss(label, logistic(scores["test"]), weight)
        counts = ", ".join(f"{count} × {name}" for name, count in Counter(models[name] for name in members).items())
        note = f"{CAVEAT}; test log loss {loss:.4f}; validation {_area(held['validation'], scores['validation']):.4f}"
        note += f"; {counts}; the best published, FinalMLP's, beside it"
        rows.append(Row(f"{case}, chosen on validation: test AUC", value, "AUC", _PUBLISHED_BEST, note=note))
    write("training_frappe_best", rows, caveat=CAVEAT)


if __name__ == "__main__":
    main()

import matplotlib.image
import numpy as np
import pytest

from bowerbird.errors import StorageError
from bowerbird.training.curve import Curve, Evaluation
from bowerbird.training.quality.bootstrap import Interval
from bowerbird.training.quality.importance import Importance
from bowerbird.training.quality.plots import plot_importance, plot_run
from bowerbird.training.quality.reliability import ReliabilityBin, reliability


def evaluation(step, loss):
    metrics = {task: {"auc": 0.6 + 0.01 * step, "log_loss": loss} for task in ("click", "long")}
    return Evaluation(step, float(step), loss, 0.7, metrics, 1e-3, 1e4)


def bins(random):
    score = random.random(2000)
    label = (random.random(2000) < score).astype(float)
    return reliability(label, score, np.ones(2000), np.arange(2000).astype(np.uint64))


def ink(file):
    """Return the share of pixels that are not white."""
    picture = matplotlib.image.imread(file)
    assert picture.shape[0] > 200 and picture.shape[1] > 300
    return float((picture[..., :3].min(axis=2) < 0.99).mean())


def test_a_run_is_drawn_and_the_same_run_gives_the_same_bytes(tmp_path, random):
    curve = Curve(tmp_path, 0)
    for step in range(1, 5):
        curve.append(evaluation(step, 0.6 / step))
    drawn = {"click": {"as trained": bins(random), "calibrated": bins(random)}, "long": {"calibrated": []}}
    files = plot_run(tmp_path, drawn)
    assert [file.name for file in files] == ["curves.png", "reliability.png"]
    assert all(0.01 < ink(file) < 0.3 for file in files)
    first = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in plot_run(tmp_path, drawn)] == first


def test_a_run_without_evaluations_has_no_curves(tmp_path, random):
    files = plot_run(tmp_path, {"click": {"calibrated": bins(random)}})
    assert [file.name for file in files] == ["reliability.png"]


def test_one_evaluation_and_rates_of_nothing_are_drawn_too(tmp_path):
    Curve(tmp_path, 0).append(evaluation(1, 0.5))
    never = [ReliabilityBin(10, 0.01, 0.0, 0.0, 0.0)]
    assert all(ink(file) > 0.001 for file in plot_run(tmp_path, {"click": {"calibrated": never}}))


def test_importance_is_drawn(tmp_path):
    values = [Importance(f"f{i}", Interval(0.1, 0.0, 0.2), Interval(1 / (i + 1), 0.0, float("nan"))) for i in range(40)]
    assert ink(plot_importance(tmp_path / "importance.png", {"click": values})) > 0.01


def test_a_picture_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        plot_importance(tmp_path / "file" / "importance.png", {"click": []})

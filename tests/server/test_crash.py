"""Servers that crash: nothing acknowledged is lost, nothing is doubled, and what is recovered is what the log gives."""

from pathlib import Path

import pytest

from bowerbird.declare.workspace import Workspace
from tests.server.crashes import Counts, CrashSeries, prepare


def check(counts: Counts, runs: int) -> None:
    assert counts.holds and counts.runs == runs, counts
    assert counts.acknowledged > 0 and counts.recoveries > 0 and counts.values > 0, counts


@pytest.mark.parametrize(("lossy", "runs"), [(False, 3), (True, 2)], ids=["killed", "lost power"])
def test_crashes(workspace: Workspace, tmp_path: Path, lossy: bool, runs: int) -> None:
    series = CrashSeries(tmp_path / "series", workspace, lossy)
    assert series.run(runs)
    check(series.counts, runs)


@pytest.mark.slow
@pytest.mark.parametrize("lossy", [False, True], ids=["killed", "lost power"])
def test_a_hundred_crashes(pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str], lossy: bool) -> None:
    """Goes on where it was interrupted; ``pytest --cache-clear`` begins anew."""
    folder = pytestconfig.cache.mkdir("lost_power" if lossy else "killed")
    with capsys.disabled():
        series = CrashSeries(folder, prepare(folder), lossy)
        series.run(100, lambda text: print(text, flush=True))
    check(series.counts, 100)

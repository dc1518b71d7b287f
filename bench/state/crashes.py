"""A hundred servers killed, and a hundred that lost power, one after another on one growing data folder.

    python -m bench.state.crashes [--runs 100] [--seconds 120]

The crashes are those of the tests (``tests/server/crashes.py`` says what each does and what is compared). With
``--seconds`` it stops between two runs after so long; the same command goes on, and writes its figures at the end.
"""

from __future__ import annotations

import argparse
import shutil
import time

from bench.common import WORK, Row, write
from tests.server.crashes import Counts, CrashSeries, prepare

KINDS = {"killed": False, "lost power": True}


def rows_of(kind: str, counts: Counts) -> list[Row]:
    places = ", ".join(f"{count} in {point}" for point, count in counts.killed.items())
    gone = f"{counts.cut_snapshots} snapshots cut, {counts.dropped_bytes:,} unsynced bytes dropped"
    compared = f"after {counts.recoveries} recoveries: {counts.unequal} of {counts.values:,} values unequal"
    return [
        Row(f"{kind}: runs", counts.runs, "runs", note=f"{places}; {gone}; {counts.seconds / counts.runs:.1f} s each"),
        Row(f"{kind}: events acknowledged", counts.acknowledged, "events", note=f"{counts.logged:,} in the log"),
        Row(f"{kind}: acknowledged events lost", counts.lost, "events"),
        Row(f"{kind}: events doubled", counts.doubled, "events"),
        Row(
            f"{kind}: slates compared with a replay", counts.slates, "slates", equal=counts.unequal == 0, note=compared
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long, to go on another time")
    given = parser.parse_args()
    started = time.monotonic()
    rows: list[Row] = []
    for kind, lossy in KINDS.items():
        folder = WORK / "crashes" / kind.replace(" ", "_")
        series = CrashSeries(folder, prepare(folder), lossy)
        if not series.run(
            given.runs, lambda text: print(text, flush=True), given.seconds - (time.monotonic() - started)
        ):
            print(f"{kind}: interrupted after {series.counts}; the same command goes on")
            return
        rows += rows_of(kind, series.counts)
    write("crashes", rows)
    shutil.rmtree(WORK / "crashes")


if __name__ == "__main__":
    main()

"""Point-in-time features, ours against DuckDB and Polars: ``python -m bench.features [--events 20000000]``.

Every exposure of a generated log gets 24 features of the records before it: windowed counts (in tiles, the same
arithmetic in the peers' own words), smoothed rates, a decayed counter, a sequence. Answers are compared first: every
row and column on a small log, digests on the whole one. Then the engines take turns, each measurement in a process of
its own. The KuaiRand plan follows. Quick: ``--events 2000000 --rounds 1``.
"""

from __future__ import annotations

import argparse
import json
from functools import partial

from rich.console import Console

from bench.common import OUT, Row, write
from bench.features import kuairand
from bench.features.answers import differences
from bench.features.compare import alone, compared, interleaved
from bench.features.log import LogShape, written
from bench.features.plan import DECAYED, SEQUENCE, numbers
from bench.features.run import answers, checksums, measure

PEERS = ("duckdb", "polars")
_CONSOLE = Console(stderr=True)


def check_rows(shape: LogShape, threads: int) -> None:
    """Compare every feature on every row; raises SystemExit where an answer differs."""
    ours = answers("ours", shape, "all", threads)
    for peer, chosen in [*((peer, "all") for peer in PEERS), *((f"{peer}_plain", "numbers") for peer in PEERS)]:
        _refuse(peer, differences(ours, answers(peer, shape, chosen, threads), [DECAYED]))


def check_digests(shape: LogShape, threads: list[int]) -> None:
    """Compare digests of every number's column over the whole log, and ours for each number of threads."""
    ours = checksums("ours", shape, "numbers", threads[0])
    for more in threads[1:]:
        _refuse(f"ours with {more} threads", ours.differences(checksums("ours", shape, "numbers", more), []))
    for peer in PEERS:
        _refuse(peer, ours.differences(checksums(peer, shape, "numbers", threads[-1]), [DECAYED]))


def _refuse(peer: str, found: list[str]) -> None:
    if found:
        raise SystemExit(f"{peer} answers differently from ours: {'; '.join(found)}")
    _CONSOLE.print(f"  {peer}: equal", highlight=False)


def timed(shape: LogShape, chosen: str, threads: int, rounds: int) -> list[Row]:
    """Return rows of ours against each peer."""
    take = partial(measure, shape=shape, chosen=chosen, threads=threads)
    return compared(_case(shape, chosen, threads), interleaved(("ours", *PEERS), shape.events, rounds, take))


def _case(shape: LogShape, chosen: str, threads: int) -> str:
    count = len(numbers()) + (chosen == "all")
    return f"{shape.events / 1e6:.3g}M events, {count} features, {threads} thread{'s' * (threads > 1)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=["log", "sequence", "kuairand"], help="only a part")
    arguments = parser.parse_args()
    if arguments.only in (None, "log"):
        _numbers(arguments)
    if arguments.only in (None, "sequence"):
        _with_sequence(arguments)
    if arguments.only in (None, "kuairand"):
        note = "The peer gets the features of the plan that running sums can express."
        write("features_kuairand", kuairand.rows(arguments.threads, arguments.rounds), note=note)


def _numbers(arguments: argparse.Namespace) -> None:
    """Compare and measure the 23 numbers."""
    whole = written(LogShape(arguments.events))
    small = written(LogShape(min(arguments.events, 2_000_000)))
    _CONSOLE.print(f"Comparing {small.events:,} events, every row")
    check_rows(small, arguments.threads[-1])
    _CONSOLE.print(f"Comparing {whole.events:,} events, digests")
    check_digests(whole, arguments.threads)
    for threads in arguments.threads:
        _CONSOLE.print(f"Timing with {threads} threads")
        _write(timed(whole, "numbers", threads, arguments.rounds))


def _with_sequence(arguments: argparse.Namespace) -> None:
    """Compare and measure all 24 features: peers on fewer events."""
    check_rows(written(LogShape(500_000)), arguments.threads[-1])
    whole = written(LogShape(arguments.events))
    smaller = written(LogShape(min(arguments.events, 5_000_000)))
    for threads in arguments.threads:
        rows = timed(smaller, "all", threads, arguments.rounds)
        take = partial(measure, shape=whole, chosen="all", threads=threads)
        case = _case(whole, "all", threads)
        rows += alone(case, interleaved(("ours",), whole.events, arguments.rounds, take)["ours"])
        _write(rows)


def _write(rows: list[Row]) -> None:
    """Write what was measured in place of the same cases: the whole takes long, and may be done in parts."""
    note = (
        f"Both peers express all {len(numbers()) + 1} features. With the sequence they are timed on fewer events, for "
        "Polars holds every list in memory. Intervals are the lowest and the highest round. Cases "
        "may have been measured at several times."
    )
    file = OUT / "features.json"
    held = [Row(**row) for row in json.loads(file.read_text())["rows"]] if file.is_file() else []
    new = {row.case: row for row in rows}
    kept = {row.case: new.get(row.case, row) for row in held}
    write("features", list((kept | new).values()), features=[*numbers(), SEQUENCE], note=note)


if __name__ == "__main__":
    main()

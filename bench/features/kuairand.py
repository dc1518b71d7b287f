"""KuaiRand's plan, ours against DuckDB: ``python -m bench.features.kuairand ours|duckdb`` is one measurement.

Both start from values in memory, encoded and joined before: what is timed is the features alone.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from bench.common import WORK, Row
from bench.features.compare import alone, compared, interleaved
from bench.features.kuairand_log import EncodedLog, FlatLog, chosen_plan, encoded, flat_log
from bench.features.kuairand_sql import PlanSql
from bench.features.ours import BATCH, engine_of
from bench.features.run import Measured, peak_mib
from bowerbird.plan.block import FeatureBlock
from bowerbird.plan.spec import Plan

Columns = dict[str, npt.NDArray[np.float32]]
_FLAT = WORK / "features-kuairand.pickle"


def replayed(plan: Plan, log: EncodedLog, threads: int) -> Iterator[FeatureBlock]:
    """Yield the features of the log's reads; no state is kept, since the peer keeps none."""
    bulk = engine_of(plan, threads).bulk(keep=False)
    done = 0
    for batch in log.batches:
        stop = int(np.searchsorted(log.reads.positions, bulk.lsn + len(batch), side="left"))
        bulk.add(batch, log.reads.part(done, stop))
        done = stop
    bulk.run()
    for _, block in bulk.blocks(BATCH):
        yield block


def ours(threads: int, every: bool, keep: bool) -> tuple[float, Columns]:
    """Return seconds, and the columns if they are to be kept."""
    plan = chosen_plan(every)
    log = encoded(plan)
    started = time.perf_counter()
    blocks = [block if keep else None for block in replayed(plan, log, threads)]
    seconds = time.perf_counter() - started
    names = [feature.name for feature in plan.features if keep]
    return seconds, {name: np.concatenate([b.numbers[name] for b in blocks if b is not None]) for name in names}


def peer(threads: int, keep: bool) -> tuple[float, Columns]:
    """Return DuckDB's seconds, and its columns in the reads' order if they are to be kept."""
    log: FlatLog = pickle.loads(_FLAT.read_bytes())
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {threads}")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"CREATE TEMP TABLE log AS FROM read_parquet('{log.file}')")
        started = time.perf_counter()
        sql = PlanSql(log)
        for statement in sql.statements():
            connection.execute(statement)
        table = connection.sql(sql.query()).to_arrow_table()
        seconds = time.perf_counter() - started
    order = np.argsort(table["read"].to_numpy()) if keep else None
    names = [name for name in table.column_names if keep and name != "read"]
    # Where nothing preceded, SQL says NULL and Arrow hands out NaN, as we do.
    return seconds, {name: table[name].to_numpy()[order] for name in names}


def check(threads: int) -> None:
    """Compare every read's every feature to one unit in the last place; raises SystemExit where one differs."""
    file = WORK / "features-kuairand-answers.pickle"
    found = []
    for engine in ("ours", "duckdb"):
        _start(engine, threads, "--answers", str(file))
        found.append(pickle.loads(file.read_bytes()))
    mine, other = found
    different = [name for name in mine if not np.allclose(mine[name], other[name], rtol=1.2e-7, atol=0, equal_nan=True)]
    if different:
        raise SystemExit(f"KuaiRand: DuckDB answers differently: {', '.join(different)}")


def rows(threads: list[int], rounds: int) -> list[Row]:
    """Return the figures as the benchmark's rows, after the comparison."""
    flat = flat_log()
    _FLAT.write_bytes(pickle.dumps(flat))
    check(threads[0])
    events, every = sum(map(len, encoded(flat.plan).batches)), len(chosen_plan(True).features)
    made: list[Row] = []
    for number in threads:
        ending = f"{number} thread{'s' * (number > 1)}"
        case = f"KuaiRand, {len(flat.plan.features)} features, {ending}"
        made += compared(case, interleaved(("ours", "duckdb"), events, rounds, partial(_measure, threads=number)))
        whole = interleaved(("every",), events, rounds, partial(_measure, threads=number))["every"]
        made += alone(f"KuaiRand, {every} features, {ending}", whole)
    return made


def _measure(engine: str, threads: int) -> Measured:
    return Measured(**json.loads(_start(engine, threads).splitlines()[-1]))


def _start(engine: str, threads: int, *more: str) -> str:
    command = [sys.executable, "-m", "bench.features.kuairand", engine, "--threads", str(threads), *more]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=["ours", "every", "duckdb"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--answers", type=Path, help="write the answers to this file")
    arguments = parser.parse_args()
    keep, started = arguments.answers is not None, time.process_time()
    if arguments.engine == "duckdb":
        seconds, columns = peer(arguments.threads, keep)
    else:
        seconds, columns = ours(arguments.threads, arguments.engine == "every", keep)
    if keep:
        arguments.answers.write_bytes(pickle.dumps(columns))
    print(json.dumps(asdict(Measured(seconds, time.process_time() - started, None, peak_mib()))))


if __name__ == "__main__":
    main()

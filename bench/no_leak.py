"""No leak on KuaiRand: for 1,000 random exposures, a log without the records that came at or after them
gives the same features. ``python -m bench.no_leak [--exposures 1000] [--reingested 10]``

Two proofs. (1) For each exposure, how many records became available before it is counted in the raw files
with SQL, apart from the platform's own order; an engine that was given only that many records (its plan
compiled and fitted anew) must read what the samples, made from the whole log, hold. (2) For a few of them, the
raw files themselves are cut at the exposure, everything is ingested and sampled again, and the features compared.
"""

from __future__ import annotations

import argparse
import random
import shutil

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.common import WORK, Row, write
from bench.kuairand import EXAMPLE, sampled
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.log.reader import LogReader
from bowerbird.log.sources.ingest import ingest
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import build_engine
from bowerbird.samples.build import build_samples
from bowerbird.samples.fit import fit_plan
from bowerbird.samples.replay import Reads, reads_of_exposures, replay
from bowerbird.samples.writer import with_features

_MOMENTS = """
WITH exposure AS (
    SELECT DISTINCT ON (user_id, video_id, time_ms) * FROM read_parquet('{raw}/log.parquet')
    ORDER BY user_id, video_id, time_ms
), labels AS (
    SELECT user_id, video_id, time_ms, max(is_click) AS is_click FROM read_parquet('{raw}/log.parquet') GROUP BY ALL
), available AS (
    SELECT 0 AS moment FROM read_csv('{raw}/users.csv') UNION ALL SELECT 0 FROM read_csv('{raw}/videos.csv')
    UNION ALL SELECT time_ms FROM read_parquet('{raw}/history.parquet')
    UNION ALL SELECT time_ms FROM exposure
    UNION ALL SELECT time_ms FROM labels WHERE is_click = 1
)
SELECT moment FROM available ORDER BY moment
"""


def sample_table(workspace: Workspace) -> pa.Table:
    """Return a workspace's samples, whole."""
    files = sorted((workspace.samples_folder / "default").glob("date=*/*.parquet"))
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])


def feature_columns(table: pa.Table) -> pa.Table:
    """Return the feature columns, each as bytes that compare bit for bit."""
    return table.select([name for name in table.column_names if name.startswith("f.")])


def bit_equal(left: pa.Table, right: pa.Table) -> bool:
    """Return whether two tables hold the same bits (NaN equals itself)."""
    if left.column_names != right.column_names or left.num_rows != right.num_rows:
        return False
    return all(_bits(left.column(n)) == _bits(right.column(n)) for n in left.column_names)


def _bits(column: pa.ChunkedArray) -> list[bytes]:
    flat = column.combine_chunks()
    if pa.types.is_large_list(flat.type):
        lengths = pc.list_value_length(flat).to_numpy()
        return [lengths.tobytes(), pc.list_flatten(flat).to_numpy().tobytes()]
    return [flat.to_numpy().tobytes()]


def by_truncated_log(workspace: Workspace, chosen: pa.Table) -> int:
    """Return how many of the exposures keep their features when only earlier records are given."""
    reader = LogReader(workspace)
    exposures = reader.exposures()
    ids = chosen.column("exposure_id")
    equal = 0
    plan, _ = fit_plan(compile_plan(workspace.project), reader, exposures)
    encoder, engine = Encoder(plan), build_engine(plan)
    wanted = exposures.filter(pc.is_in(exposures.column("_id"), ids.combine_chunks())).sort_by("_read_lsn")
    reads = reads_of_exposures(encoder, wanted)
    order = {identity: row for row, identity in enumerate(ids.to_pylist())}
    for row, identity in enumerate(wanted.column("_id").to_pylist()):
        position = int(reads.positions[row])
        for batch in reader.batches(plan, encoder, first=engine.lsn, last=position):
            engine.apply(batch.records)
        one = Reads(reads.positions[row : row + 1], reads.times[row : row + 1], reads.slots[:, row : row + 1].copy())
        (part,) = replay(_Nothing(), encoder, engine, one)  # type: ignore[arg-type]
        base = pa.table({"exposure_id": [identity]})
        stored = feature_columns(chosen.slice(order[identity], 1))
        equal += bit_equal(feature_columns(with_features(base, plan, part.block)), stored)
    return equal


class _Nothing:
    """A log without further records."""

    def batches(self, *_: object, **__: object) -> list[object]:
        return []


def counts_agree(workspace: Workspace, chosen: pa.Table) -> int:
    """Return for how many exposures a count of the raw files' records equals what the samples saw.

    Actions that follow the playing of a video are counted by their times in the log.
    """
    query = _MOMENTS.format(raw=workspace.raw_folder)
    reader = LogReader(workspace)
    later = np.sort(
        np.concatenate(
            [
                reader.records(name).column("_available").to_numpy()
                for name in ("long_view", "like", "follow", "profile_enter", "play")
            ]
        )
    )
    moments = duckdb.execute(query).fetchnumpy()["moment"] * 1000
    times = chosen.column("time").to_numpy()
    counted = np.searchsorted(moments, times) + np.searchsorted(later, times)
    return int((counted == chosen.column("read_lsn").to_numpy()).sum())


def by_reingesting(workspace: Workspace, chosen: pa.Table) -> int:
    """Return how many exposures keep their features when the raw files end before them."""
    equal = 0
    for row in range(chosen.num_rows):
        time = chosen.column("time")[row].as_py() // 1000
        cut = _cut_workspace(workspace, time)
        again = sample_table(cut)
        again = again.filter(pc.equal(again.column("exposure_id"), chosen.column("exposure_id")[row]))
        equal += bit_equal(feature_columns(again), feature_columns(chosen.slice(row, 1)))
    return equal


def _cut_workspace(workspace: Workspace, time: int) -> Workspace:
    folder = WORK / "kuairand-cut"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "raw").mkdir(parents=True)
    for file in ("project.py", "bowerbird.toml"):
        shutil.copy(EXAMPLE / file, folder / file)
    for file in ("users.csv", "videos.csv"):
        shutil.copy(workspace.raw_folder / file, folder / "raw" / file)
    outcomes = ("is_click", "long_view", "is_like", "is_follow", "is_profile_enter")
    # Outcomes that were not yet known at `time` are blanked; the exposures at `time` keep none.
    blanked = ", ".join(
        f"CASE WHEN time_ms + {'0' if name == 'is_click' else 'play_time_ms'} < {time} THEN {name} ELSE 0 END AS {name}"
        for name in outcomes
    )
    duckdb.execute(f"""
        COPY (SELECT * REPLACE ({blanked},
                CASE WHEN time_ms + play_time_ms < {time} THEN play_time_ms END AS play_time_ms)
              FROM read_parquet('{workspace.raw_folder}/log.parquet') WHERE time_ms <= {time})
        TO '{folder}/raw/log.parquet' (FORMAT parquet)""")
    duckdb.execute(f"""
        COPY (SELECT * FROM read_parquet('{workspace.raw_folder}/history.parquet') WHERE time_ms < {time})
        TO '{folder}/raw/history.parquet' (FORMAT parquet)""")
    cut = load_workspace(folder)
    ingest(cut, progress=False)
    build_samples(cut)
    return cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exposures", type=int, default=1000)
    parser.add_argument("--reingested", type=int, default=5)
    parser.add_argument("--seed", type=int, default=20261121)
    arguments = parser.parse_args()
    workspace = sampled()
    samples = sample_table(workspace)
    draw = random.Random(arguments.seed)
    chosen = samples.take(pa.array(draw.sample(range(samples.num_rows), arguments.exposures)))
    few = chosen.slice(0, arguments.reingested)
    agreeing = counts_agree(workspace, chosen)
    truncated = by_truncated_log(workspace, chosen)
    cut = by_reingesting(workspace, few)
    rows = [
        Row(
            "records seen, as SQL counts them in the raw files",
            agreeing,
            f"of {len(chosen)}",
            equal=agreeing == len(chosen),
        ),
        Row(
            "features bit-equal on the log cut at the exposure",
            truncated,
            f"of {len(chosen)}",
            equal=truncated == len(chosen),
        ),
        Row(
            "features bit-equal when the raw files are cut and ingested anew",
            cut,
            f"of {len(few)}",
            equal=cut == len(few),
        ),
    ]
    write("no_leak", rows)
    if not all(row.equal for row in rows):
        raise SystemExit("A later record changed a feature.")


if __name__ == "__main__":
    main()

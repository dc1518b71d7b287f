"""How fast the KuaiRand log is replayed, and in how much memory: ``python -m bench.replay``."""

from __future__ import annotations

import resource
import time

from bench.common import Row, write
from bench.kuairand import workspace
from bowerbird.log.reader import LogReader
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import build_engine
from bowerbird.samples.replay import reads_of_exposures, replay


def main() -> None:
    loaded = workspace()
    reader = LogReader(loaded)
    plan = compile_plan(loaded.project)
    encoder = Encoder(plan)
    started = time.perf_counter()
    encoded = sum(len(batch.records) for batch in reader.batches(plan, encoder))
    reading = time.perf_counter() - started
    started = time.perf_counter()
    reads = reads_of_exposures(encoder, reader.exposures())
    engine = build_engine(plan)
    rows = sum(part.rows for part in replay(reader, encoder, engine, reads))
    whole = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    state = sum(engine.usage().family_bytes.values()) / 2**20
    features = len(plan.features)
    write(
        "replay",
        [
            Row("KuaiRand log to samples, one thread", engine.lsn / whole, "events/s", note=f"{features} features"),
            Row("of it, reading and encoding the log", encoded / reading, "events/s"),
            Row("exposures read", rows / whole, "exposures/s"),
            Row("peak memory of the process", peak, "MiB"),
            Row("state at the end", state, "MiB", note=f"{sum(engine.usage().family_keys.values()):,} keys"),
        ],
        aggregates=len(plan.aggregates),
    )


if __name__ == "__main__":
    main()

"""Streams an epoch and prints its peak of memory: ``python -m tests.training.stream_memory SAMPLES BYTES SHUFFLE``.

Prints, as JSON, the bytes by which resident memory grew at its highest, the rows seen and the samples' encoded size.
"""

import json
import sys
from pathlib import Path

from bowerbird.embedding import EmbeddingCollection
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.encoded_size import EncodedSize
from bowerbird.training.batches.key_counts import count_keys
from bowerbird.training.batches.split import DateRange
from bowerbird.training.batches.stream import StreamSource
from tests.training.synthetic import DAYS


def resident(field: str) -> int:
    """Return a field of this process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def main() -> None:
    samples, memory, shuffle = SampleFolder(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "shuffle"
    dates = DateRange(DAYS[0], DAYS[3])
    collection = EmbeddingCollection.Config().build(samples.plan)
    collection.admit(count_keys(samples.plan, [samples.read_piece(samples.pieces(dates.since, dates.since)[0])]))
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    source = StreamSource(samples, dates, collection, 1024, 1, memory_bytes=memory, shuffle=shuffle)
    source.base_rates()
    source.number_columns()
    rows = sum(len(batch) for batch in source.batches(0))
    size = EncodedSize(samples.plan, len(samples.tasks)).total(samples.pieces(dates.since, dates.until))
    print(json.dumps({"grown": resident("VmHWM") - before, "rows": rows, "size": size}))


if __name__ == "__main__":
    main()

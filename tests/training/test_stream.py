"""What streaming adds to the rules of test_source.py: mixing, order of time, bounded memory, cheap resuming."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bowerbird.embedding import EmbeddingCollection
from bowerbird.errors import InputError
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.encoded_size import EncodedSize
from bowerbird.training.batches.split import DateRange
from bowerbird.training.batches.stream import StreamSource
from bowerbird.training.batches.windows import ShuffledWindows
from tests.training.synthetic import DAYS, write_samples

REPOSITORY = Path(__file__).parents[2]
DATES = DateRange(DAYS[0], DAYS[3])


def source_of(folder, memory_bytes, batch_size=16, **options):
    samples = SampleFolder(folder)
    collection = EmbeddingCollection.Config().build(samples.plan)
    return StreamSource(samples, DATES, collection, batch_size, 1, memory_bytes=memory_bytes, **options)


def reorder(folder, random, distance):
    """Move each row of each file by up to about ``distance`` rows."""
    for day in DAYS:
        file = folder / f"date={day}" / "part-0.parquet"
        table = pq.ParquetFile(file).read()
        order = np.argsort(np.arange(len(table)) + random.uniform(0, distance, len(table)))
        pq.write_table(table.take(order), file, row_group_size=40)


@pytest.fixture
def folder(tmp_path):
    return write_samples(tmp_path / "samples", rows_per_day=400, group_rows=40)


def test_row_groups_are_cut_to_pieces_that_fit(folder):
    source = source_of(folder, 100_000)
    assert all(piece.rows < 40 for piece in source._pieces)
    assert sum(piece.rows for piece in source._pieces) == 1600
    assert len(source.windows(0).rows) > 4
    assert all(len(source.windows(0).pieces(window)) >= 8 for window in range(len(source.windows(0).rows) - 1))


def test_windows_are_drawn_from_the_whole_range(folder):
    """The variance of windows' means is that of drawing pieces without replacement, as the class says."""
    samples, size = SampleFolder(folder), EncodedSize(SampleFolder(folder).plan, 2)
    pieces = [piece for group in samples.pieces(DATES.since, DATES.until) for piece in group.split(10)]
    means = np.array([samples.read_times(piece).mean() for piece in pieces])
    mean_of = {(piece.file, piece.first_row): mean for piece, mean in zip(pieces, means, strict=True)}
    window_bytes = sum(size.of(piece) for piece in pieces) // 10
    errors = []
    for seed in range(400):
        drawn = ShuffledWindows(pieces, size, window_bytes, seed, 0).pieces(0)
        error = np.mean([mean_of[piece.file, piece.first_row] for piece in drawn]) - means.mean()
        errors.append(error**2 * len(drawn) * (len(means) - 1) / (len(means) - len(drawn)))
    assert np.mean(errors) == pytest.approx(means.var(), rel=0.2)


def test_resuming_reads_no_earlier_window(folder, monkeypatch):
    source = source_of(folder, 100_000, ahead=0)
    read = []
    original = SampleFolder.read_piece
    monkeypatch.setattr(SampleFolder, "read_piece", lambda self, piece: read.append(piece) or original(self, piece))
    last = source.steps_per_epoch - 1
    assert len(list(source.batches(0, last))) == 1
    assert len(read) <= 2 * max(len(source.windows(0).pieces(window)) for window in range(len(source.windows(0).rows)))


@pytest.mark.parametrize("distance", [30, 150])
def test_rows_out_of_order_are_put_in_the_order_of_time(folder, random, distance):
    reorder(folder, random, distance)
    source = source_of(folder, 300_000, shuffle=False)
    assert len(source.windows(0).rows) > 3
    times = np.concatenate([batch.marks.time for batch in source.batches(0)])
    assert len(times) == 1600
    assert (np.diff(times) >= 0).all()
    rest = np.concatenate([batch.marks.time for batch in source.batches(0, 40)])
    assert np.array_equal(rest, times[40 * 16 :])


def test_too_much_disorder_is_an_error_before_memory_is_full(folder, random):
    reorder(folder, random, 100_000)
    source = source_of(folder, 100_000, shuffle=False)
    with pytest.raises(InputError, match=r"samples overlap in time between row groups.*raise memory_bytes"):
        next(source.batches(0))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("large") / "samples", rows_per_day=250_000, group_rows=50_000)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["shuffle", "time"])
@pytest.mark.parametrize("memory_bytes", [40_000_000, 80_000_000])
def test_memory_stays_within_the_budget(large, memory_bytes, order):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.stream_memory", str(large), str(memory_bytes), order]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, timeout=300, check=True)
    answer = json.loads(done.stdout)
    assert answer["rows"] == 1_000_000
    assert answer["size"] > 180_000_000
    assert answer["grown"] < memory_bytes

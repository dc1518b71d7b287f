"""The rules of ``BatchSource``, run on each source: in memory and streamed, shuffled and in the order of time."""

import contextlib
import threading

import numpy as np
import pytest
import torch

from bowerbird.embedding import EmbeddingCollection
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.encoded import base_rates
from bowerbird.training.batches.key_counts import count_keys
from bowerbird.training.batches.source import BatchSource, MemorySource
from bowerbird.training.batches.split import DateRange
from bowerbird.training.batches.stream import StreamSource
from tests.training.encode import encode_samples
from tests.training.synthetic import DAYS, write_samples

BATCH = 64
DATES = DateRange(DAYS[0], DAYS[3])
SMALL_BUDGET = 180_000
KINDS = [
    ("memory", True),
    ("memory", False),
    ("memory ahead", True),
    ("stream", True),
    ("stream", False),
    ("stream wide", True),
    ("stream wide", False),
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return SampleFolder(write_samples(tmp_path_factory.mktemp("source") / "default", rows_per_day=230, group_rows=70))


@pytest.fixture(scope="module")
def collection(samples):
    collection = EmbeddingCollection.Config().build(samples.plan)
    collection.admit(count_keys(samples.plan, samples.read(DATES.since, DATES.until)))
    return collection


@pytest.fixture(scope="module")
def encoded(samples, collection):
    return encode_samples(collection, samples.read(DATES.since, DATES.until))


def make_source(kind, shuffle, samples, collection, encoded, seed=3) -> BatchSource:
    if kind.startswith("memory"):
        return MemorySource(encoded, BATCH, seed, shuffle=shuffle, ahead=2 if kind == "memory ahead" else 0)
    budget = 1 << 30 if kind == "stream wide" else SMALL_BUDGET
    return StreamSource(samples, DATES, collection, BATCH, seed, memory_bytes=budget, shuffle=shuffle)


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}, {'shuffled' if kind[1] else 'by time'}")
def source(request, samples, collection, encoded):
    return make_source(*request.param, samples, collection, encoded)


def everything(batch):
    """Return all of a batch's arrays by name."""
    marks, origin = batch.marks, batch.marks.origin
    arrays = {"weight": batch.weight, "user": marks.user, "item": marks.item, "time": marks.time}
    arrays |= {f"label {name}": values for name, values in batch.labels.items()}
    arrays |= {"row": origin.row, "file": np.array([origin.files[file] for file in origin.file])}
    arrays |= batch.rows.categories | batch.rows.numbers
    for sequence in batch.rows.sequences.values():
        arrays |= sequence.categories | sequence.numbers | {"age of events": sequence.age, "mask": sequence.mask}
    return arrays


def assert_same(left, right):
    left, right = everything(left), everything(right)
    assert left.keys() == right.keys()
    for name, values in left.items():
        assert values.dtype == right[name].dtype
        assert np.array_equal(values, right[name], equal_nan=values.dtype.kind == "f"), name


def places(source, epoch):
    return [
        (origin.files[file], int(row))
        for origin in (batch.marks.origin for batch in source.batches(epoch))
        for file, row in zip(origin.file, origin.row, strict=True)
    ]


def test_every_sample_comes_once_in_each_epoch(source, encoded):
    expected = sorted(
        (encoded.files[file], int(row))
        for file, row in zip(encoded.mark_matrix["file"], encoded.mark_matrix["row"], strict=True)
    )
    assert len(source) == len(encoded) == len(set(expected)) == 920
    for epoch in (0, 1):
        assert sorted(places(source, epoch)) == expected


def test_batches_are_full_but_for_the_last(source):
    sizes = [len(batch) for batch in source.batches(0)]
    assert source.steps_per_epoch == len(sizes) == 15
    assert sizes == [source.batch_size] * 14 + [920 - 14 * source.batch_size]


def test_an_epoch_is_the_same_each_time(source):
    for left, right in zip(source.batches(1), source.batches(1), strict=True):
        assert_same(left, right)


def test_an_epoch_can_begin_at_any_batch(source):
    whole = list(source.batches(1))
    for first in range(len(whole) + 1):
        rest = list(source.batches(1, first))
        assert len(rest) == len(whole) - first
        for left, right in zip(rest, whole[first:], strict=True):
            assert_same(left, right)


def test_a_sample_is_that_of_its_file(source, encoded):
    """Features, labels and keys of each sample are those of the same row, read without a source."""
    where = {}
    for sample, (file, row) in enumerate(zip(encoded.mark_matrix["file"], encoded.mark_matrix["row"], strict=True)):
        where[encoded.files[file], int(row)] = sample
    for batch in source.batches(0):
        origin = batch.marks.origin
        same = [where[origin.files[file], int(row)] for file, row in zip(origin.file, origin.row, strict=True)]
        assert_same(batch, encoded.batch(np.array(same)))


def test_order(source):
    times = [np.concatenate([batch.marks.time for batch in source.batches(epoch)]) for epoch in (0, 1)]
    if source.shuffle:
        assert not np.array_equal(times[0], times[1])
        assert (np.diff(times[0]) < 0).mean() > 0.3
    else:
        assert (np.diff(times[0]) >= 0).all()
        assert np.array_equal(times[0], times[1])


def test_what_a_model_is_fitted_to(source, encoded):
    columns, expected = source.number_columns(), encoded.number_columns()
    assert columns.keys() == expected.keys()
    for name, values in columns.items():
        assert np.array_equal(np.sort(values), np.sort(expected[name]), equal_nan=True), name
    assert source.base_rates() == pytest.approx(base_rates(encoded))


def test_an_epoch_left_early_leaves_no_thread(source):
    with contextlib.closing(source.batches(0)) as batches:
        next(batches)
    assert "bowerbird-prefetch" not in [thread.name for thread in threading.enumerate()]


def test_a_batch_can_be_looked_up(source, collection):
    features = collection(next(iter(source.batches(0))).rows)
    assert features["topic"].shape == (BATCH, 16)
    assert features["history.item"].shape[0] == BATCH
    assert all(torch.isfinite(features[name]).all() for name in ("topic", "history.item"))

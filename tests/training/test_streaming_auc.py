import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.bundles.calibrate import logistic
from bowerbird.errors import InputError
from bowerbird.training.quality.metrics import auc
from bowerbird.training.quality.streaming_auc import StreamingAuc


def drawn(seed, rows=400, scale=1.0):
    random = np.random.default_rng(seed)
    logit = (random.normal(size=rows) * scale).astype(np.float32)
    label = (random.random(rows) < logistic(logit.astype(float))).astype(np.float32)
    return label, logit, random.integers(1, 5, rows).astype(np.float32)


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from([4, 64, 4096]), st.sampled_from([0.001, 1.0, 50.0]))
def test_the_value_is_within_its_bound_of_the_exact_one(seed, bins, scale):
    label, logit, weight = drawn(seed, scale=scale)
    streamed = StreamingAuc(bins)
    streamed.add(label, logit, weight)
    exact = auc(label.astype(float), logit.astype(float), weight.astype(float))
    assert abs(streamed.value - exact) <= streamed.error + 1e-12


@given(st.integers(0, 2**32), st.lists(st.integers(0, 400), max_size=5))
def test_batches_and_shards_count_as_one_pass(seed, cuts):
    label, logit, weight = drawn(seed)
    whole, first, second = StreamingAuc(256), StreamingAuc(256), StreamingAuc(256)
    whole.add(label, logit, weight)
    for place, rows in enumerate(np.split(np.arange(400), sorted(cuts))):
        (first, second)[place % 2].add(label[rows], logit[rows], weight[rows])
    first.merge(second)
    assert (first.value, first.error) == (whole.value, whole.error)


def test_the_default_is_nearly_exact():
    label, logit, weight = drawn(1, rows=50_000)
    streamed = StreamingAuc()
    streamed.add(label, logit, weight)
    assert streamed.error < 2e-4
    assert streamed.value == pytest.approx(auc(label.astype(float), logit, weight.astype(float)), abs=1e-6)


def test_immature_labels_take_no_part_and_one_class_is_undefined():
    streamed = StreamingAuc(64)
    streamed.add(np.array([1.0, np.nan]), np.array([0.5, 3.0]))
    assert np.isnan(streamed.value) and np.isnan(streamed.error)
    streamed.add(np.array([0.0]), np.array([-0.5]))
    assert streamed.value == 1.0


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(InputError, match="NaN"):
        StreamingAuc(64).add(np.ones(1), np.array([np.nan]))
    with pytest.raises(InputError, match="32 bins cannot be merged into 64"):
        StreamingAuc(64).merge(StreamingAuc(32))

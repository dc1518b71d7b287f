"""The native table is its NumPy twin, bit for bit, and PyTorch's optimisers where they mean the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird import _native
from bowerbird.embedding.table import Table
from bowerbird.errors import InputError
from bowerbird.kernels.table import ReferenceTable
from bowerbird.kernels.table_config import (
    FTRL,
    SGD,
    Adagrad,
    Adam,
    Admission,
    Expiry,
    RowWiseAdagrad,
    TableConfig,
)
from bowerbird.kernels.table_numbers import draw

RATES = st.sampled_from([0.001, 0.05, 0.7])
PENALTIES = st.sampled_from([0.0, 0.02])
CLIPS = st.sampled_from([0.0, 0.5])
OPTIMISERS = st.one_of(
    st.builds(SGD, learning_rate=RATES, l2=PENALTIES, clip=CLIPS),
    st.builds(Adagrad, learning_rate=RATES, l2=PENALTIES, clip=CLIPS, initial=st.sampled_from([0.0, 0.1])),
    st.builds(RowWiseAdagrad, learning_rate=RATES, l2=PENALTIES, clip=CLIPS, initial=st.sampled_from([0.0, 0.1])),
    st.builds(Adam, learning_rate=RATES, l2=PENALTIES, clip=CLIPS),
    st.builds(FTRL, learning_rate=RATES, l2=PENALTIES, clip=CLIPS, l1=st.sampled_from([0.0, 0.003])),
)
CONFIGS = st.builds(
    TableConfig,
    dimension=st.sampled_from([1, 3, 16, 21, 32]),
    precision=st.sampled_from(["float32", "float16", "bfloat16"]),
    rounding=st.sampled_from(["stochastic", "nearest"]),
    initial_scale=st.sampled_from([0.0, 0.01, 0.5]),
    seed=st.integers(0, 2**64 - 1),
    optimiser=OPTIMISERS,
)
ADMISSIONS = st.builds(
    Admission,
    minimum_count=st.integers(1, 4),
    probability=st.sampled_from([0.3, 1.0]),
    filter_keys=st.sampled_from([3, 50]),
    filter_error=st.sampled_from([0.3, 0.01]),
)


def batches(seed, steps=5, size=40, keys=30):
    random = np.random.default_rng(seed)
    for _ in range(steps):
        yield random.integers(0, keys, size).astype(np.uint64), random


def assert_same(table, twin, count=40):
    keys = np.arange(count, dtype=np.uint64)
    rows = table.find(keys)
    assert rows.tolist() == twin.find(keys).tolist()
    np.testing.assert_array_equal(table.take(rows), twin.take(rows))
    np.testing.assert_array_equal(table.state(rows), twin.state(rows))


@given(CONFIGS, st.sampled_from(_native.table_instruction_sets()), st.integers(0, 99), st.booleans())
@settings(max_examples=30)
def test_every_optimiser_is_its_twin(config, instructions, seed, with_rate):
    table, twin = Table(config, instructions=instructions), ReferenceTable(config)
    for keys, random in batches(seed):
        rows = table.admit(keys)
        assert rows.tolist() == twin.admit(keys).tolist()
        gradients = random.normal(size=(len(rows), config.dimension)).astype(np.float32)
        rate = 0.03 if with_rate else None
        table.update(rows, gradients, rate)
        twin.update(rows, gradients, rate)
        assert_same(table, twin)


@given(CONFIGS, st.sampled_from(["sum", "mean"]), st.booleans(), st.integers(0, 99))
@settings(max_examples=20)
def test_pooling_and_its_gradient_are_the_twins(config, mode, weighted, seed):
    table, twin = Table(config), ReferenceTable(config)
    for keys, random in batches(seed, steps=3):
        rows = table.admit(keys)
        twin.admit(keys)
        offsets = np.sort(np.concatenate([[0, len(rows)], random.integers(0, len(rows), 8)]))
        weights = random.normal(size=len(rows)).astype(np.float32) if weighted else None
        pooled = table.pool(rows, offsets, mode, weights)
        np.testing.assert_array_equal(pooled, twin.pool(rows, offsets, mode, weights))
        gradients = random.normal(size=pooled.shape).astype(np.float32)
        table.update_pooled(rows, offsets, gradients, mode, weights)
        twin.update_pooled(rows, offsets, gradients, mode, weights)
        assert_same(table, twin)


@given(ADMISSIONS, st.integers(0, 99), st.booleans())
@settings(max_examples=30)
def test_admission_is_the_twins(admission, seed, counted):
    config = TableConfig(dimension=2, admission=admission, seed=seed)
    table, twin = Table(config), ReferenceTable(config)
    for keys, random in batches(seed, steps=12):
        counts = random.integers(0, 4, len(keys)) if counted else None
        assert table.admit(keys, counts=counts).tolist() == twin.admit(keys, counts=counts).tolist()
    assert len(table) == len(twin)


@given(
    st.builds(
        Expiry, max_age=st.sampled_from([0, 6.5]), rare_age=st.sampled_from([0, 2]), rare_uses=st.sampled_from([0, 5])
    ),
    st.integers(0, 99),
)
@settings(max_examples=20)
def test_expiry_is_the_twins(expiry, seed):
    config = TableConfig(dimension=2, expiry=expiry)
    table, twin = Table(config), ReferenceTable(config)
    for now, (keys, _) in enumerate(batches(seed, steps=15, size=8)):
        table.admit(keys, time=now)
        twin.admit(keys, time=now)
        if now % 3 == 2:
            assert table.expire(now) == twin.expire(now)
        known = np.arange(40, dtype=np.uint64)
        rows, expected = table.find(known), twin.find(known)
        assert ((rows == 1) == (expected == 1)).all()
        np.testing.assert_array_equal(table.take(rows), twin.take(expected))
        assert table.stats().keys == len(twin)


def test_exact_adam_is_torchs_over_the_whole_table():
    config = TableConfig(
        dimension=10, optimiser=Adam(learning_rate=0.01, l2=0.05, exact=True), initial_scale=0.1, seed=3
    )
    table, twin = Table(config, threads=2), ReferenceTable(config)
    keys = np.arange(1, 60, dtype=np.uint64)
    rows = table.admit(keys)
    twin.admit(keys)
    weights = torch.nn.Parameter(torch.from_numpy(table.take(np.arange(table.rows)).copy()))
    adam = torch.optim.Adam([weights], lr=0.01, weight_decay=0.05)
    random = np.random.default_rng(0)
    for _ in range(100):
        touched = random.choice(rows, 12)
        gradients = random.normal(size=(12, 10)).astype(np.float32)
        weights.grad = torch.zeros_like(weights).index_add(0, torch.from_numpy(touched), torch.from_numpy(gradients))
        adam.step()
        table.update(touched, gradients)
        twin.update(touched, gradients)
    np.testing.assert_allclose(table.take(np.arange(table.rows)), weights.detach().numpy(), rtol=2e-4, atol=2e-5)
    assert_same(table, twin, 60)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(learning_rate=0.1), lambda rows: torch.optim.SGD(rows, lr=0.1)),
        (Adagrad(learning_rate=0.1), lambda rows: torch.optim.Adagrad(rows, lr=0.1)),
    ],
    ids=["SGD", "Adagrad"],
)
def test_steps_without_momentum_are_torchs(ours, theirs):
    table = Table(TableConfig(dimension=7, optimiser=ours))
    rows = table.admit(np.arange(1, 40, dtype=np.uint64))
    embedding = torch.nn.Embedding(table.rows, 7)
    embedding.weight.data = torch.from_numpy(table.take(np.arange(table.rows)).copy())
    optimiser = theirs([embedding.weight])
    random = np.random.default_rng(1)
    for _ in range(50):
        touched = random.choice(rows, 20)
        gradients = random.normal(size=(20, 7)).astype(np.float32)
        optimiser.zero_grad()
        (embedding(torch.from_numpy(touched)) * torch.from_numpy(gradients)).sum().backward()
        optimiser.step()
        table.update(touched, gradients)
    np.testing.assert_allclose(
        table.take(np.arange(table.rows)), embedding.weight.detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_initial_values_are_normal_and_depend_on_the_key_alone():
    keys = np.random.default_rng(0).integers(1, 2**64, 20_000, dtype=np.uint64)
    config = TableConfig(dimension=16, initial_scale=0.02, seed=9)
    first, second = Table(config), Table(config, threads=2)
    vectors = first.take(first.admit(keys))
    second.admit(keys[::-1].copy())
    np.testing.assert_array_equal(second.take(second.find(keys)), vectors)
    values = np.sort(vectors.reshape(-1).astype(np.float64)) / 0.02
    normal = torch.special.ndtr(torch.from_numpy(values)).numpy()
    assert np.abs(normal - np.arange(len(values)) / len(values)).max() < 0.003
    assert abs(values.std() - 1) < 0.005
    other = Table(TableConfig(dimension=16, initial_scale=0.02, seed=10))
    assert (other.take(other.admit(keys[:100])) != vectors[:100]).all(axis=1).all()
    assert draw(5, 1.0, 4).tolist() != draw(6, 1.0, 4).tolist()


def test_ftrl_goes_from_zero_to_either_side_alike():
    config = TableConfig(dimension=64, optimiser=FTRL(learning_rate=0.1, l1=0.3), initial_scale=0.0)
    for table in (Table(config), ReferenceTable(config)):
        rows = table.admit(np.array([5], np.uint64))
        assert (table.state(rows) == 0).all()
        for slope in (0.2, 0.2, -0.2, -0.2, -0.2, -0.2):
            table.update(rows, np.full((1, 64), slope, np.float32))
        assert (table.take(rows) > 0).all()


def test_stochastic_rounding_keeps_small_steps_alive():
    step = np.full((1, 16), 1e-4, np.float32)
    moved = {}
    for rounding in ("stochastic", "nearest"):
        config = TableConfig(
            precision="bfloat16", rounding=rounding, initial_scale=0.0, optimiser=SGD(learning_rate=1.0)
        )
        table = Table(config)
        rows = table.admit(np.array([5], np.uint64))
        table.set_rows(rows, np.ones((1, 16), np.float32))
        for _ in range(2000):
            table.update(rows, step)
        moved[rounding] = float(1 - table.take(rows).mean())
    assert moved["nearest"] == 0.0
    assert moved["stochastic"] == pytest.approx(0.2, rel=0.1)


def test_the_filter_keeps_its_stated_error():
    admission = Admission(minimum_count=2, filter_keys=50_000, filter_error=0.02)
    table = Table(TableConfig(dimension=1, admission=admission))
    random = np.random.default_rng(0)
    table.admit(random.integers(1, 2**64, 49_000, dtype=np.uint64))
    early = table.stats().admitted
    assert early / 49_000 < 0.02
    fresh = random.integers(1, 2**64, 900, dtype=np.uint64)
    assert (table.admit(fresh) > 1).mean() < 0.02
    assert (table.admit(fresh) > 1).all()
    assert table.stats().filter_bytes < 2 * 50_000 * 10


def test_growing_keeps_rows_and_reports_bytes():
    table = Table(TableConfig(dimension=4))
    keys = np.random.default_rng(0).integers(1, 2**64, 300_000, dtype=np.uint64)
    rows = np.concatenate([table.admit(part) for part in np.array_split(keys, 7)])
    assert rows.tolist() == list(range(2, 300_002))
    np.testing.assert_array_equal(table.find(keys.reshape(300, 1000)), rows.reshape(300, 1000))
    stats = table.stats()
    assert stats.keys == 300_000 and stats.rows == 300_002 and stats.refused == 0
    assert stats.index_bytes / stats.keys < 30
    assert 0.5 < stats.load < 0.9
    found, where = table.keys()
    assert where.tolist() == rows.tolist() and found.tolist() == keys.tolist()


def test_a_memory_budget_is_kept():
    expiry = Expiry(max_bytes=1_000_000)
    table = Table(TableConfig(dimension=16, expiry=expiry))
    favourites = np.arange(1, 11, dtype=np.uint64)
    for start in range(100, 50_000, 100):
        table.admit(np.concatenate([np.arange(start, start + 100, dtype=np.uint64), favourites]))
    stats = table.stats()
    assert stats.index_bytes + stats.row_bytes + stats.filter_bytes <= 1_000_000
    assert stats.evicted > 30_000 and stats.refused == 0
    assert (table.find(favourites) > 1).all()
    assert (table.find(np.arange(49_900, 50_000, dtype=np.uint64)) > 1).all()


@pytest.mark.parametrize(
    "act",
    [
        lambda table: table.take(np.array([99])),
        lambda table: table.take(np.array([-1])),
        lambda table: table.update(np.array([2]), np.zeros((1, 3), np.float32)),
        lambda table: table.update(np.array([2]), np.zeros((1, 4), np.float32), learning_rate=-1.0),
        lambda table: table.pool(np.array([2]), np.array([0, 2])),
        lambda table: table.pool(np.array([2]), np.array([0, 1]), "most"),
        lambda table: table.admit(np.array([2], np.uint64), time=-1.0),
        lambda table: table.admit(np.array([2], np.uint64), counts=np.array([1, 2])),
        lambda table: table.take(np.array([2]), out=np.zeros((2, 4), np.float32)),
        lambda table: table.take(np.array([2.0])),
    ],
)
def test_what_does_not_fit_is_refused(act):
    table = Table(TableConfig(dimension=4))
    table.admit(np.array([7], np.uint64))
    with pytest.raises(InputError):
        act(table)


@pytest.mark.parametrize(
    "settings_",
    [
        {"dimension": 0}, {"precision": "float8"}, {"initial_scale": float("nan")}, {"seed": -1},
        {"optimiser": SGD(learning_rate=0.0)}, {"optimiser": Adam(beta1=1.0)}, {"optimiser": Adagrad(l2=-1.0)},
        {"optimiser": Adam(exact=True), "precision": "bfloat16"}, {"admission": Admission(minimum_count=256)},
        {"admission": Admission(probability=0.0)}, {"expiry": Expiry(max_age=-1.0)},
    ],
)  # fmt: skip
def test_settings_without_sense_are_refused(settings_):
    with pytest.raises(InputError):
        TableConfig(**settings_)


@given(CONFIGS, ADMISSIONS)
def test_a_configuration_survives_json(config, admission):
    full = TableConfig(dimension=config.dimension, optimiser=config.optimiser, admission=admission)
    assert TableConfig.from_json(full.to_json()) == full
    with pytest.raises(InputError):
        TableConfig.from_json(full.to_json().replace("optimiser", "optimizer"))


def test_out_arrays_are_used():
    table = Table(TableConfig(dimension=4))
    rows = table.admit(np.arange(1, 9, dtype=np.uint64))
    out = np.empty((8, 4), np.float32)
    assert table.take(rows, out) is out
    np.testing.assert_array_equal(out, table.take(rows))

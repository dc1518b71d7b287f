import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from bowerbird.embedding import EmbeddingCollection
from bowerbird.errors import CorruptionError, InputError, NotFoundError
from bowerbird.plan.block_rows import take_rows
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.encoded import base_rates
from bowerbird.training.batches.key_counts import count_keys
from tests.training.encode import encode_samples
from tests.training.synthetic import DAYS, write_samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return SampleFolder(write_samples(tmp_path_factory.mktemp("dataset") / "default", rows_per_day=200))


def copy_of(samples, tmp_path, change):
    """Return a sample folder whose first file went through ``change``."""
    folder = write_samples(tmp_path / "changed", rows_per_day=50)
    file = folder / f"date={DAYS[0]}" / "part-0.parquet"
    change(file)
    return SampleFolder(folder)


def test_days_are_read_in_order_and_only_those_asked_for(samples):
    parts = list(samples.read(DAYS[1], DAYS[2]))
    assert [len(part) for part in parts] == [200, 200]
    assert (np.diff(np.concatenate([part.time for part in parts])) >= 0).all()
    assert list(samples.days) == list(DAYS)


def test_immature_labels_are_unknown_and_given_ones_joint(samples):
    (part,) = samples.read(DAYS[3], DAYS[3])
    assert np.isnan(part.labels["click"]).sum() == 20
    mature = ~np.isnan(part.labels["click"])
    assert (part.labels["long"][mature] <= part.labels["click"][mature]).all()


def test_counts_agree_with_the_columns(samples):
    parts = list(samples.read(DAYS[0], DAYS[1]))
    keys, counts = count_keys(samples.plan, parts)["topic"]
    everything = np.concatenate(
        [
            array
            for part in parts
            for array in (part.block.categories["topic"], part.block.sequences["history"].fields["topic"])
        ]
    )
    expected = np.unique(everything, return_counts=True)
    assert keys.tolist() == expected[0].tolist()
    assert counts.tolist() == expected[1].tolist()


def test_encoded_batches_equal_the_blocks(samples):
    collection = EmbeddingCollection.Config(minimum_count=2).build(samples.plan)
    collection.admit(count_keys(samples.plan, samples.read(DAYS[0], DAYS[1])))
    encoded = encode_samples(collection, samples.read(DAYS[0], DAYS[2]))
    assert len(encoded) == 600
    parts = list(samples.read(DAYS[0], DAYS[2]))
    chosen = np.array([3, 199, 17, 17])
    batch = encoded.batch(200 + chosen)
    expected = collection(take_rows(parts[1].block, chosen))
    for name, value in collection(batch.rows).items():
        assert torch.equal(value.nan_to_num(-1), expected[name].nan_to_num(-1)), name
    assert batch.labels["click"].tolist() == parts[1].labels["click"][chosen].tolist()


def test_batches_cover_every_sample_once_and_can_begin_late(samples):
    collection = EmbeddingCollection.Config().build(samples.plan)
    encoded = encode_samples(collection, samples.read(DAYS[0], DAYS[0]))
    order = np.random.default_rng(0).permutation(200)
    whole = [batch.rows.numbers["rate"] for batch in encoded.batches(order, 64)]
    assert [len(piece) for piece in whole] == [64, 64, 64, 8]
    assert np.array_equal(np.concatenate(whole), encoded.numbers["rate"][order])
    late = [batch.rows.numbers["rate"] for batch in encoded.batches(order, 64, first=2)]
    assert np.array_equal(np.concatenate(late), np.concatenate(whole[2:]))


def test_base_rates_are_weighted_shares_of_mature_samples(samples):
    collection = EmbeddingCollection.Config().build(samples.plan)
    encoded = encode_samples(collection, samples.read(DAYS[3], DAYS[3]))
    label = encoded.labels["click"]
    assert base_rates(encoded)["click"] == pytest.approx(np.nanmean(label))


def test_a_damaged_file_is_named(samples, tmp_path):
    def cut(file):
        file.write_bytes(file.read_bytes()[:-100])

    with pytest.raises(CorruptionError, match=r"part-0\.parquet"):
        list(copy_of(samples, tmp_path, cut).read(DAYS[0], DAYS[0]))


@pytest.mark.parametrize(
    ("column", "value", "message"), [("label.click", 3, "label 'click' is 3"), ("weight", np.nan, "weight of row 7")]
)
def test_impossible_values_are_named(samples, tmp_path, column, value, message):
    def change(file):
        table = pq.read_table(file, partitioning=None)
        values = table.column(column).to_pylist()
        values[7] = value
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, [values]), file)

    with pytest.raises(InputError, match=message):
        list(copy_of(samples, tmp_path, change).read(DAYS[0], DAYS[0]))


def test_a_missing_feature_is_corruption(samples, tmp_path):
    def drop(file):
        pq.write_table(pq.read_table(file, partitioning=None).drop_columns(["f.rate"]), file)

    with pytest.raises(CorruptionError, match=r"f\.rate"):
        list(copy_of(samples, tmp_path, drop).read(DAYS[0], DAYS[0]))


def test_no_samples_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="bowerbird samples"):
        SampleFolder(tmp_path)

"""Bad samples: the error says which value, in which file and row, and what to do."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bowerbird.embedding import EmbeddingCollection
from bowerbird.errors import CorruptionError, InputError, StorageError
from bowerbird.training.batches.dataset import SampleFolder
from bowerbird.training.batches.encoded_size import EncodedSize, bytes_text, machine_memory
from bowerbird.training.batches.faulty_batch import faulty_values, save_faulty_batch
from bowerbird.training.batches.key_counts import count_keys
from bowerbird.training.batches.open_source import encode_range, open_source
from bowerbird.training.batches.source import MemorySource
from bowerbird.training.batches.split import DateRange
from bowerbird.training.batches.stream import StreamSource
from bowerbird.training.batches.unseen import unseen_shares, unseen_warnings
from tests.training.encode import encode_samples
from tests.training.synthetic import DAYS, write_samples
from tests.training.vectors import write_vector_samples

DATES = DateRange(DAYS[0], DAYS[3])


@pytest.fixture
def folder(tmp_path):
    return write_samples(tmp_path / "samples", rows_per_day=100, group_rows=40)


def change(folder, column, row, value, day=DAYS[1]):
    file = folder / f"date={day}" / "part-0.parquet"
    table = pq.ParquetFile(file).read()
    values = table.column(column).to_pylist()
    values[row] = value
    place = table.column_names.index(column)
    array = pa.array(values, table.schema.field(column).type)
    pq.write_table(table.set_column(place, table.schema.field(column), array), file, row_group_size=40)


def collection_of(samples, since=DATES.since, until=DATES.until):
    collection = EmbeddingCollection.Config().build(samples.plan)
    collection.admit(count_keys(samples.plan, samples.read_parts(since, until)))
    return collection


def stream_of(folder, **options):
    samples = SampleFolder(folder)
    return open_source(samples, DATES, collection_of(samples), 32, 1, **{"placement": "stream", **options})


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label.click", 3, "label 'click' is 3.0 in row 87, not 0, 1 or null"),
        ("weight", -1.0, "weight of row 87 is -1"),
    ],
)
def test_an_impossible_value_is_named_with_its_row_in_the_file(folder, column, value, message):
    samples = SampleFolder(folder)
    source = StreamSource(samples, DATES, collection_of(samples), 32, 1, memory_bytes=1 << 20)
    change(folder, column, 87, value)
    with pytest.raises(InputError, match=rf"date={DAYS[1]}/part-0\.parquet: .*{message}.*[Mm]ake the samples again"):
        list(source.batches(0))


@pytest.mark.parametrize("column", ["f.rate", "f.history.seconds", "f.history.age"])
def test_an_infinite_number_is_named_and_its_batch_saved(folder, tmp_path, column):
    value = np.inf if column == "f.rate" else [1.0, np.inf]
    change(folder, column, 87, value)
    if column != "f.rate":
        for name in ("f.history.item", "f.history.topic", "f.history.seconds", "f.history.age"):
            if name != column:
                change(folder, name, 87, [1, 2])
    (bad,) = [batch for batch in stream_of(folder).batches(0) if faulty_values(batch)]
    (sentence,) = faulty_values(bad)
    name = column.removeprefix("f.")
    assert name in sentence or (name == "history.age" and "age of events in feature 'history'" in sentence)
    assert f"is inf in {folder}/date={DAYS[1]}/part-0.parquet, row 87 (1 such samples in the batch)" in sentence
    file = save_faulty_batch(tmp_path / "run", bad, 12)
    assert file == tmp_path / "run" / "faulty_batch-12.parquet"
    table = pq.ParquetFile(file).read().to_pydict()
    assert len(table["row"]) == len(bad)
    (place,) = [row for row, number in enumerate(table["row"]) if number == 87 and DAYS[1] in table["file"][row]]
    assert np.isinf(table[column][place]).any()
    assert table["f.history.topic"][0] == [
        int(row) for row in bad.rows.sequences["history"].categories["history.topic"][0]
        if row != 0
    ]


def test_unknown_numbers_and_immature_labels_are_no_fault(folder):
    batches = list(stream_of(folder).batches(0))
    assert any(np.isnan(batch.rows.numbers["age"]).any() for batch in batches)
    assert any(np.isnan(batch.labels["click"]).any() for batch in batches)
    assert [sentence for batch in batches for sentence in faulty_values(batch)] == []


def test_a_batch_without_files_is_described_and_saved_too(folder, tmp_path):
    batch = next(iter(stream_of(folder).batches(0)))
    marks = dataclasses.replace(batch.marks, origin=None)
    lost = dataclasses.replace(batch, read_marks=lambda: marks)
    lost.rows.numbers["rate"][5] = -np.inf
    assert faulty_values(lost) == ["feature 'rate' is -inf in row 5 of the batch (1 such samples in the batch)"]
    assert "file" not in pq.ParquetFile(save_faulty_batch(tmp_path / "run", lost, 0)).schema_arrow.names


def test_vectors_are_saved_and_looked_at(tmp_path):
    samples = SampleFolder(write_vector_samples(tmp_path / "samples"))
    dates = list(samples.days)
    encoded = encode_range(samples, DateRange(dates[0], dates[-1]), collection_of(samples, dates[0], dates[-1]))
    batch = encoded.batch(np.arange(20))
    name = next(iter(batch.rows.vectors))
    batch.rows.vectors[name][3, 1] = np.nan
    place = batch.marks.origin.describe(3)
    assert faulty_values(batch) == [f"feature {name!r} is nan in {place} (1 such samples in the batch)"]
    saved = pq.ParquetFile(save_faulty_batch(tmp_path / "run", batch, 0)).read()
    assert saved.column(f"f.{name}")[0].as_py() == batch.rows.vectors[name][0].tolist()


def test_a_batch_that_cannot_be_saved_is_a_storage_error(folder, tmp_path):
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(StorageError):
        save_faulty_batch(tmp_path / "run", next(iter(stream_of(folder).batches(0))), 0)


def test_a_day_whose_files_are_gone_is_corruption(folder):
    (folder / f"date={DAYS[1]}" / "part-0.parquet").unlink()
    samples = SampleFolder(folder)
    with pytest.raises(CorruptionError, match=f"date={DAYS[1]} holds no file, but the manifest says 100 rows"):
        list(samples.read(DATES.since, DATES.until))
    with pytest.raises(CorruptionError, match="holds no file"):
        samples.pieces(DATES.since, DATES.until)


def test_a_file_with_fewer_rows_than_declared_is_corruption(folder):
    file = folder / f"date={DAYS[1]}" / "part-0.parquet"
    pq.write_table(pq.ParquetFile(file).read().slice(0, 90), file)
    with pytest.raises(CorruptionError, match=r"has 390 rows .* but its manifest says 400"):
        SampleFolder(folder).pieces(DATES.since, DATES.until)


def test_days_without_samples_are_listed(folder):
    assert SampleFolder(folder).empty_days("2025-12-30", "2026-01-05") == ["2025-12-30", "2025-12-31", "2026-01-05"]


def test_an_empty_file_is_skipped(folder):
    file = folder / f"date={DAYS[1]}" / "part-0.parquet"
    empty = pq.ParquetFile(file).read().slice(0, 0)
    pq.write_table(empty, file.with_name("part-1.parquet"))
    samples = SampleFolder(folder)
    assert sum(piece.rows for piece in samples.pieces(DATES.since, DATES.until)) == 400
    assert len(encode_range(samples, DATES, collection_of(samples))) == 400
    assert len(encode_samples(collection_of(samples), samples.read(DATES.since, DATES.until))) == 400


def test_a_file_damaged_while_streaming_is_named(folder):
    source = stream_of(folder)
    file = folder / f"date={DAYS[2]}" / "part-0.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(CorruptionError, match=rf"date={DAYS[2]}/part-0\.parquet cannot be read"):
        list(source.batches(0))


def test_a_vocabulary_that_training_never_saw_is_warned_of(folder):
    samples = SampleFolder(folder)
    seen = unseen_shares(encode_range(samples, DATES, collection_of(samples)))
    assert set(seen) == {"user", "hour", "item", "topic", "history.item", "history.topic", "searches.query"}
    assert all(share < 0.2 for share in seen.values())
    assert unseen_warnings(seen) == []
    collection = collection_of(samples)
    nothing = EmbeddingCollection.Config().build(samples.plan)
    collection.indexes["user"] = nothing.indexes["user"]
    shares = unseen_shares(encode_range(samples, DATES, collection))
    assert shares["user"] == 1
    (warning,) = unseen_warnings(shares)
    assert "'user'" in warning and "minimum_count" in warning


def test_what_does_not_fit_is_refused_before_it_is_read(folder):
    samples = SampleFolder(folder)
    collection = collection_of(samples)
    with pytest.raises(InputError, match=r"take .* KiB in memory, where 1\.0 KiB are allowed.*streamed"):
        open_source(samples, DATES, collection, 32, 1, placement="memory", memory_bytes=1024)
    with pytest.raises(InputError, match=r"batches of 32 samples .* need .*Raise memory_bytes or lower batch_size"):
        open_source(samples, DATES, collection, 32, 1, memory_bytes=1024)


def test_the_choice_follows_the_size(folder):
    samples = SampleFolder(folder)
    collection = collection_of(samples)
    size = EncodedSize(samples.plan, len(samples.tasks)).total(samples.pieces(DATES.since, DATES.until))
    make = lambda **options: open_source(samples, DATES, collection, 4, 1, **options)  # noqa: E731
    assert isinstance(make(), MemorySource)
    assert isinstance(make(memory_bytes=size), MemorySource)
    assert isinstance(make(memory_bytes=size - 1), StreamSource)
    assert isinstance(make(placement="stream"), StreamSource)
    encoded = encode_range(samples, DATES, collection)
    assert encoded.nbytes <= size <= 1.3 * encoded.nbytes


def test_memory_is_told_from_the_machine():
    assert 1 << 28 < machine_memory() < 1 << 50
    texts = [bytes_text(count) for count in (12, 2048, 3 << 20, 5 << 40)]
    assert texts == ["12 bytes", "2.0 KiB", "3.0 MiB", "5.0 TiB"]

import pickle
import pickletools
import threading

import msgspec
import numpy as np
import pytest
import torch

from bowerbird.bundles import bundle as bundle_module
from bowerbird.bundles import read_bundle, verify_golden
from bowerbird.bundles.arrays import pack_arrays
from bowerbird.bundles.block_json import block_from_json, block_to_json
from bowerbird.bundles.write import BundleParts, write_bundle
from bowerbird.compiler.staging import stage_graph
from bowerbird.embedding import EmbeddingCollection
from bowerbird.embedding.served_table import TableChange
from bowerbird.errors import CorruptionError, NotFoundError, StorageError
from tests.training.synthetic import World

TABLES = 5
"""Vocabularies of the synthetic plan."""
FILES = [
    "calibration.json",
    "golden.json",
    "manifest.json",
    "manifest.sha256",
    "metrics.json",
    "plan.json",
    "rows.msgpack",
    "rows.safetensors",
    "staged.msgpack",
    "staged.safetensors",
    *(f"tables/{place}.table" for place in range(TABLES)),
]


def parts_of(bundle):
    return BundleParts(bundle.plan, bundle.calibrations, bundle.metrics, bundle.golden)


def files_of(bundle):
    return [path for path in bundle.folder.rglob("*") if path.is_file()]


@pytest.fixture
def bundle(make_bundle, tmp_path):
    return make_bundle(tmp_path / "home" / "1")


def test_it_holds_these_files_and_answers_its_golden_requests(bundle):
    assert sorted(path.relative_to(bundle.folder).as_posix() for path in files_of(bundle)) == FILES
    assert sorted([*bundle.manifest.files, "manifest.json", "manifest.sha256"]) == FILES
    verify_golden(read_bundle(bundle.folder))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_changed_byte_is_found_and_the_file_named(bundle, name, place):
    file = bundle.folder / name
    data = bytearray(file.read_bytes())
    position = int(place * (len(data) - 1)) if name != "manifest.sha256" else int(place * 63)
    data[position] ^= 1
    file.write_bytes(bytes(data))
    named = "manifest.json" if name == "manifest.sha256" else name
    with pytest.raises(CorruptionError, match=named):
        read_bundle(bundle.folder)


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("manifest.json", "manifest.sha256")])
def test_a_missing_or_shortened_file_is_found(bundle, name):
    file = bundle.folder / name
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(CorruptionError, match=name):
        read_bundle(bundle.folder)
    file.unlink()
    with pytest.raises(CorruptionError, match=name):
        read_bundle(bundle.folder)


def test_a_wrong_golden_answer_is_found(bundle):
    scorer = bundle.load_scorer()
    served = scorer.model.collection
    keys, rows = served.tables["item"].file_keys()
    change = TableChange(keys, served.tables["item"].take(rows) + np.float32(1))
    scorer.model.collection = served.with_changes({"item": change}, 1, "")
    with pytest.raises(CorruptionError, match="golden"):
        verify_golden(bundle, scorer=scorer)
    verify_golden(read_bundle(bundle.folder))


def test_no_file_is_a_pickle(bundle):
    for path in files_of(bundle):
        data = path.read_bytes()
        with pytest.raises(ValueError):
            list(pickletools.genops(data))
        assert b"PK\x03\x04" not in data, f"{path.name} holds an archive"
        assert b"\x80\x02}" not in data and b"\x80\x04\x95" not in data, f"{path.name} holds a pickle"


def test_loading_unpickles_nothing(bundle, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    verify_golden(read_bundle(bundle.folder))


def test_no_path_of_this_machine_is_in_the_bundle(bundle):
    for path in files_of(bundle):
        data = path.read_bytes()
        assert b"stack_trace" not in data
        assert str(bundle.folder.parent).encode() not in data
        assert b".py" not in data, path.name


def test_nothing_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="holds no bundle"):
        read_bundle(tmp_path)


def test_an_existing_version_is_never_overwritten(bundle, make_bundle):
    with pytest.raises(StorageError, match="exists already"):
        make_bundle(bundle.folder)
    verify_golden(read_bundle(bundle.folder))
    assert [path.name for path in bundle.folder.parent.iterdir()] == ["1"]


def test_a_full_disk_leaves_nothing_behind(make_bundle, tmp_path, monkeypatch):
    from bowerbird import durable

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "sync_file", full)
    with pytest.raises(StorageError, match="No space left"):
        make_bundle(tmp_path / "home" / "1")
    assert list((tmp_path / "home").iterdir()) == []


def test_threads_share_a_scorer(bundle):
    scorer = bundle.load_scorer()
    blocks = [World(seed).draw(20)[0] for seed in range(4)]
    expected = [scorer.score(block)["click"] for block in blocks]
    wrong = []

    def ask(place):
        for _ in range(20):
            if not np.array_equal(scorer.score(blocks[place])["click"], expected[place]):
                wrong.append(place)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_scoring_goes_on_while_another_thread_loads(bundle):
    scorer = bundle.load_scorer()
    block, *_ = World().draw(20)
    expected = scorer.score(block)["click"]
    errors = []

    def load():
        try:
            for _ in range(3):
                verify_golden(read_bundle(bundle.folder))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert np.array_equal(scorer.score(block)["click"], expected)
    assert not errors


def test_a_bundle_of_before_with_all_tables_in_one_file_answers_as_one_of_today(bundle, tmp_path):
    """The plan of ``make_bundle``'s tables, written as they were until tables were mapped."""
    config = msgspec.convert(bundle.manifest.embedding, EmbeddingCollection.Config)
    trained, served = config.build(bundle.plan), bundle.load_collection()
    arrays = {}
    for name, table in served.tables.items():
        keys, rows = table.file_keys()
        arrays |= {f"{name}.keys": keys, f"{name}.rows": table.take(np.concatenate([[0, 1], rows]))}
    trained.import_arrays(arrays)
    files = {name: (bundle.folder / name).read_bytes() for name in bundle.manifest.files if "tables/" not in name}
    files["tables.safetensors"] = pack_arrays(trained.export_arrays())
    old = write_bundle(tmp_path / "old", bundle.manifest, parts_of(bundle), files)
    block, *_ = World().draw(7)
    now, before = bundle.load_scorer().score(block), verify_golden(old).score(block)
    assert all(np.array_equal(now[task], before[task]) for task in now)


def without_staged(bundle, folder):
    files = {name: (bundle.folder / name).read_bytes() for name in bundle.manifest.files if "staged" not in name}
    return write_bundle(folder, bundle.manifest, parts_of(bundle), files)


def test_its_program_is_staged_again_only_where_another_compiler_published_it(bundle, tmp_path, monkeypatch):
    block, *_ = World().draw(7)
    expected = bundle.load_scorer().score(block)["click"]
    old = without_staged(bundle, tmp_path / "old")
    staged = []

    def counted(*given):
        staged.append(given)
        return stage_graph(*given)

    monkeypatch.setattr(bundle_module, "stage_graph", counted)
    assert np.array_equal(bundle.load_scorer().score(block)["click"], expected)
    assert not staged
    assert np.array_equal(verify_golden(old).score(block)["click"], expected)
    assert len(staged) == 1
    monkeypatch.setattr(bundle_module, "compiler_fingerprint", lambda: "another")
    assert np.array_equal(verify_golden(bundle).score(block)["click"], expected)
    assert len(staged) == 2


def test_a_start_checks_tables_by_length_and_header_alone(bundle):
    file = bundle.folder / "tables/2.table"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    started = read_bundle(bundle.folder, verify_tables=False)
    started.load_collection()
    with pytest.raises(CorruptionError, match=r"2\.table"):
        started.load_collection().verify()
    file.write_bytes(bytes(data[:-1]))
    with pytest.raises(CorruptionError, match=r"2\.table"):
        read_bundle(bundle.folder, verify_tables=False)


def test_a_bundle_of_before_row_graphs_is_refused_with_the_remedy(bundle, tmp_path):
    names = [name for name in bundle.manifest.files if not name.startswith("rows.")]
    files = {name: (bundle.folder / name).read_bytes() for name in names}
    old = write_bundle(tmp_path / "old", bundle.manifest, parts_of(bundle), files)
    with pytest.raises(CorruptionError, match="no row graph"):
        old.load_model()


def test_blocks_survive_json():
    block, *_ = World().draw(5)
    block.numbers["rate"][2] = np.nan
    again = block_from_json(block_to_json(block))
    for name, keys in block.categories.items():
        assert again.categories[name].dtype == np.uint64
        assert np.array_equal(again.categories[name], keys)
    for name, values in block.numbers.items():
        assert np.array_equal(again.numbers[name], values, equal_nan=True)
    for name, ragged in block.sequences.items():
        assert np.array_equal(again.sequences[name].offsets, ragged.offsets)
        assert np.array_equal(again.sequences[name].age, ragged.age)
        for field, values in ragged.fields.items():
            assert again.sequences[name].fields[field].dtype == values.dtype
            assert np.array_equal(again.sequences[name].fields[field], values)

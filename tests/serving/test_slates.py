import ctypes
import mmap
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bowerbird.errors import CorruptionError, InputError
from bowerbird.log.slate_id import made_before, new_slate_id, read_slate_id
from bowerbird.plan.block import FeatureBlock, Ragged
from bowerbird.serving.logged_slates import loaded, logged_slates
from bowerbird.serving.slate import Slate
from bowerbird.serving.slate_segments import segment_files
from bowerbird.serving.slates import SlateLog, iterate_slates, remove_slates


def slate(number: int, candidates: int = 3) -> Slate:
    block = FeatureBlock(
        categories={"user": np.array([7], np.uint64), "item": np.arange(candidates, dtype=np.uint64)},
        numbers={"price": np.full(candidates, np.nan, np.float32)},
        sequences={
            "history": Ragged(
                np.array([0, 2], np.int64),
                {"item": np.array([1, 2], np.uint64), "price": np.array([1.5, np.nan], np.float32)},
                np.array([60.0, 2.0], np.float32),
            )
        },
        lsn=number,
        vectors={"embedding": np.arange(4 * candidates, dtype=np.float32).reshape(candidates, 4)},
    )
    return Slate(
        slate_id=new_slate_id(number, 1_700_000_000_000_000 + number),
        kind="score",
        lsn=number,
        time=1_700_000_000_000_000 + number,
        scene="home",
        user="u",
        context={"page": 3, "query": None},
        candidates=[f"i{position}" for position in range(candidates)],
        model="din",
        version=2,
        plan="0123",
        features=block,
        scores={"click": np.linspace(0, 1, candidates, dtype=np.float32)},
        ranking=np.linspace(0, 1, candidates, dtype=np.float32),
        given={"price": 2.5},
        candidate_given={1: {"price": None}},
        shown=[2, 0],
    )


def check_equal(one: Slate, other: Slate) -> None:
    for name in (
        "slate_id",
        "lsn",
        "time",
        "context",
        "candidates",
        "given",
        "candidate_given",
        "shown",
        "user",
    ):
        assert getattr(one, name) == getattr(other, name), name
    np.testing.assert_array_equal(one.ranking, other.ranking)
    np.testing.assert_array_equal(one.scores["click"], other.scores["click"])
    for name, keys in one.features.categories.items():
        np.testing.assert_array_equal(keys, other.features.categories[name])
    np.testing.assert_array_equal(one.features.numbers["price"], other.features.numbers["price"])
    np.testing.assert_array_equal(one.features.vectors["embedding"], other.features.vectors["embedding"])
    history, read = one.features.sequences["history"], other.features.sequences["history"]
    np.testing.assert_array_equal(history.offsets, read.offsets)
    np.testing.assert_array_equal(history.age, read.age)
    for name, values in history.fields.items():
        np.testing.assert_array_equal(values, read.fields[name])


def write_twenty(folder: Path) -> list[Slate]:
    """Write twenty slates to several segments."""
    log = SlateLog(folder, segment_bytes=2_000)
    written = [slate(number, candidates=number) for number in range(20)]
    for each in written:
        log.append(each)
    log.close()
    return written


def resident_pages(file: Path) -> int:
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        found = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        start = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(start)), len(mapped), found)
        del start
    assert not failed
    return sum(each & 1 for each in found)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system keeps what it likes")
def test_what_is_on_the_disk_leaves_memory(tmp_path: Path) -> None:
    log = SlateLog(tmp_path, segment_bytes=1)
    for number in range(3):
        log.append(slate(number))
    files = segment_files(tmp_path)
    assert len(files) == 3 and min(map(resident_pages, files)) > 0
    deadline = time.monotonic() + 20
    while any(map(resident_pages, files)):  # each round writes what is not written yet
        if time.monotonic() > deadline:
            pytest.skip("this file system keeps files in memory")
        log.append(slate(3))
        for file in files:
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        log.spare_memory()
    log.close()


def test_slates_come_back_as_written_in_order_over_segments(tmp_path: Path) -> None:
    written = write_twenty(tmp_path)
    read = list(iterate_slates(tmp_path))
    assert len(list(tmp_path.iterdir())) > 1
    assert [each.lsn for each in read] == list(range(20))
    for one, other in zip(written, read, strict=True):
        check_equal(one, other)


def test_slates_are_found_without_being_read_and_loaded_in_any_order(tmp_path: Path) -> None:
    written = write_twenty(tmp_path)
    found = list(logged_slates(tmp_path))
    for each, other in zip(found, written, strict=True):
        assert (each.slate_id, each.lsn, each.time) == (other.slate_id, other.lsn, other.time)
        assert (each.model, each.version) == (other.model, other.version)
    for one, other in zip(reversed(written), loaded(reversed(found)), strict=True):
        check_equal(one, other)
    found[0].file.unlink()
    gone = sum(each.file == found[0].file for each in found)
    assert 0 < gone < 20
    assert [each.lsn for each in loaded(found)] == list(range(gone, 20))
    assert [each.lsn for each in logged_slates(tmp_path)] == list(range(gone, 20))


def test_a_damaged_slate_is_told_when_it_is_loaded(tmp_path: Path) -> None:
    log = SlateLog(tmp_path)
    for number in range(3):
        log.append(slate(number))
    log.close()
    found = list(logged_slates(tmp_path))
    data = bytearray(found[0].file.read_bytes())
    data[found[1].record.position + found[1].record.length - 1] ^= 1
    found[0].file.write_bytes(data)
    assert [each.lsn for each in logged_slates(tmp_path)] == [0, 1, 2]
    with pytest.raises(CorruptionError, match=f"byte {found[1].record.position - 8:,}"):
        list(loaded(found))
    data[found[1].record.position + 4] ^= 0xFF
    found[0].file.write_bytes(data)
    with pytest.raises(CorruptionError, match="damaged"):
        list(logged_slates(tmp_path))


def test_every_torn_tail_is_skipped_and_earlier_damage_is_told(tmp_path: Path) -> None:
    log = SlateLog(tmp_path)
    log.append(slate(0))
    log.append(slate(1))
    log.close()
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    first = 8 + int.from_bytes(data[:4], "little")
    for cut in range(first, len(data)):
        file.write_bytes(data[:cut])
        assert [each.lsn for each in iterate_slates(tmp_path)] == [0]
        assert [each.lsn for each in logged_slates(tmp_path)] == [0]
    file.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    with pytest.raises(CorruptionError, match="byte 0"):
        list(iterate_slates(tmp_path))


def _write_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(descriptor: int, data: Sequence[bytes]) -> int:
        whole = b"".join(data)
        os.write(descriptor, whole[: len(whole) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", half)


def test_a_refused_write_loses_one_slate_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SlateLog(tmp_path)
    log.append(slate(0))
    with monkeypatch.context() as full:
        _write_halves(full)
        log.append(slate(1))
    log.append(slate(2))
    log.close()
    assert log.lost == 1
    assert [each.lsn for each in iterate_slates(tmp_path)] == [0, 2]


def test_a_full_disk_gets_neither_empty_segments_nor_a_warning_for_each_slate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = SlateLog(tmp_path)
    with monkeypatch.context() as full:
        _write_halves(full)
        for number in range(100):
            log.append(slate(number))
    assert log.lost == 100
    assert not list(tmp_path.iterdir())
    assert len(caplog.records) == 1
    log.append(slate(100))
    log.close()
    assert [each.lsn for each in iterate_slates(tmp_path)] == [100]


def test_segments_that_are_removed_while_slates_are_read_are_skipped(tmp_path: Path) -> None:
    log = SlateLog(tmp_path, segment_bytes=1)
    for number in range(5):
        log.append(slate(number))
    log.close()
    reading = iterate_slates(tmp_path)
    assert next(reading).lsn == 0
    for file in segment_files(tmp_path)[:3]:
        file.unlink()
    assert [each.lsn for each in reading] == [3, 4]
    assert [each.lsn for each in iterate_slates(tmp_path)] == [3, 4]


def test_what_is_removed_from_a_segment_leaves_the_rest_as_old_as_it_was(tmp_path: Path) -> None:
    log = SlateLog(tmp_path)
    for number in range(3):
        log.append(slate(number))
    log.close()
    (file,) = segment_files(tmp_path)
    os.utime(file, (1_000, 1_000))
    (tmp_path / f".writing-{file.name}").write_bytes(file.read_bytes())
    assert remove_slates(tmp_path, lambda each: each.lsn == 1) == 1
    assert [each.lsn for each in iterate_slates(tmp_path)] == [0, 2]
    assert file.stat().st_mtime == 1_000


def test_slate_ids_sort_by_time_hold_their_point_and_refuse_changes() -> None:
    ids = [new_slate_id(lsn=5, time=time) for time in (1, 2, 10**15, 10**15 + 1)]
    assert ids == sorted(ids)
    assert len(set(new_slate_id(1, 1) for _ in range(1000))) == 1000
    point = read_slate_id(ids[2])
    assert (point.lsn, point.time) == (5, 10**15)
    assert made_before(ids[2], 10**15 + 1) and not made_before(ids[2], 10**15) and not made_before("x", 10**15)
    for wrong in (
        "",
        "x",
        ids[0][:-1],
        ids[0] + "0",
        "z" * 40,
        ids[0].replace(ids[0][20], "0" if ids[0][20] != "0" else "1"),
    ):
        with pytest.raises(InputError):
            read_slate_id(wrong)

from __future__ import annotations

import errno
import os
import random
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bowerbird.errors import CorruptionError, StorageError, TooLargeError, UnavailableError
from bowerbird.log.live.segment import HEADER_BYTES, segments
from bowerbird.log.live.wal_reader import read_wal, wal_bounds
from bowerbird.log.live.write_ahead import SEGMENT_BYTES, WriteAheadLog

Record = dict[str, Any]


def record(number: int) -> Record:
    return {"_type": "click", "_id": f"id{number}", "_time": number, "user": "ann" * (number % 7), "item": number}


def stored(folder: Path, first: int = 0, last: int | None = None) -> list[tuple[int, str]]:
    return [(lsn, payload["_id"]) for lsn, payload in read_wal(folder, first, last)]


def expected(count: int) -> list[tuple[int, str]]:
    return [(lsn, f"id{lsn}") for lsn in range(count)]


def fill(folder: Path, count: int, sync_every: int = 1, segment_bytes: int = SEGMENT_BYTES) -> None:
    with WriteAheadLog(folder, segment_bytes=segment_bytes) as wal:
        for number in range(count):
            wal.append([record(number)])
            if number % sync_every == 0:
                wal.sync()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_records_come_back_in_order_with_consecutive_lsns(tmp_path: Path) -> None:
    with WriteAheadLog(tmp_path) as wal:
        assert wal.append([record(0), record(1)]) == 0
        assert wal.append([record(2)]) == 2
        assert wal.synced_lsn == 0
        assert wal.sync() == wal.synced_lsn == wal.next_lsn == 3
        assert [lsn for lsn, _ in wal.iterate(1)] == [1, 2]
    assert stored(tmp_path) == expected(3)
    assert stored(tmp_path, 1, 2) == [(1, "id1")]
    with WriteAheadLog(tmp_path) as wal:
        assert wal.append([record(3)]) == 3


def test_payloads_survive_as_they_are(tmp_path: Path) -> None:
    payload = {"_type": "t", "_id": "i|d", "_time": 5, "text": "ü\0", "whole": -(2**63), "number": 0.1, "flag": True}
    with WriteAheadLog(tmp_path) as wal:
        wal.append([payload], now=99)
        assert list(wal.iterate()) == [(0, payload | {"_available": 99})]
    assert "_available" not in payload


def test_available_never_goes_back(tmp_path: Path) -> None:
    with WriteAheadLog(tmp_path) as wal:
        wal.append([record(0)], now=1_000)
        wal.append([record(1)], now=400)
    with WriteAheadLog(tmp_path) as wal:
        assert wal.last_available == 1_000
        wal.append([record(2)], now=999)
        wal.append([record(3)], now=1_001)
        assert [payload["_available"] for _, payload in wal.iterate()] == [1_000, 1_000, 1_000, 1_001]


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first = WriteAheadLog(tmp_path)
    with pytest.raises(UnavailableError, match=rf"process {os.getpid()}.*POST /v1/events"):
        WriteAheadLog(tmp_path)
    first.close()
    first.close()
    WriteAheadLog(tmp_path).close()


def test_segments_rotate_and_are_read_from_any_lsn(tmp_path: Path) -> None:
    fill(tmp_path, 200, sync_every=3, segment_bytes=1_000)
    assert len(segments(tmp_path)) > 5
    assert stored(tmp_path) == expected(200)
    for first in (0, 1, 57, 120, 199, 200):
        assert stored(tmp_path, first) == expected(200)[first:]
        assert stored(tmp_path, first, 130) == expected(130)[first:]
    with WriteAheadLog(tmp_path, segment_bytes=1_000) as wal:
        assert (wal.next_lsn, wal.synced_lsn) == (200, 200)


def test_a_torn_tail_is_cut_at_every_byte_of_the_last_record(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    (path,) = segments(tmp_path)
    whole = path.read_bytes()
    with WriteAheadLog(tmp_path) as wal:
        wal.append([record(4)])
    tail = len(path.read_bytes())
    complete = path.read_bytes()
    for cut in range(len(whole), tail):
        path.write_bytes(complete[:cut])
        assert stored(tmp_path) == expected(4)
        with WriteAheadLog(tmp_path) as wal:
            assert wal.next_lsn == 4
            assert (wal.cut is None) == (path.stat().st_size == cut)
            if wal.cut is not None:
                assert wal.cut.file == path and wal.cut.offset + wal.cut.bytes == cut
            assert wal.append([record(4)]) == 4
        assert stored(tmp_path) == expected(5)
        path.write_bytes(complete)


@pytest.mark.parametrize("where", ["first", "middle"])
def test_damage_of_acknowledged_records_is_named(tmp_path: Path, where: str) -> None:
    fill(tmp_path, 20)
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    offset = HEADER_BYTES + 20 if where == "first" else len(data) // 2
    data[offset] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptionError, match=rf"{path.name} at offset \d+: .*Restore"):
        WriteAheadLog(tmp_path)
    with pytest.raises(CorruptionError, match=path.name):
        stored(tmp_path)
    assert path.read_bytes() == bytes(data)


def test_damage_of_an_earlier_segment_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 100, segment_bytes=1_000)
    path = segments(tmp_path)[1]
    for damaged in (path.read_bytes()[:-1], path.read_bytes()[:-40], b"x" + path.read_bytes()[1:]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptionError, match=rf"{path.name}"):
            stored(tmp_path)


def test_every_single_damaged_byte_is_noticed_or_cut(tmp_path: Path) -> None:
    """A flipped byte never yields a wrong record; damage below a mark is an error."""
    fill(tmp_path, 6)
    (path,) = segments(tmp_path)
    whole = path.read_bytes()
    for offset in range(len(whole)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x5A]) + whole[offset + 1 :])
        try:
            found = stored(tmp_path)
        except CorruptionError:
            continue
        assert found == expected(len(found)) and len(found) >= 5


@pytest.mark.parametrize("seed", range(60))
def test_dropped_unsynced_writes_lose_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    """After a power cut the file holds what was synced, and of the rest any prefix, holes or rubbish."""
    chance = random.Random(seed)
    wal = WriteAheadLog(tmp_path)
    synced_bytes, acknowledged, number = HEADER_BYTES, 0, 0
    (path,) = segments(tmp_path)
    for _ in range(chance.randint(1, 12)):
        for _ in range(chance.randint(1, 5)):
            wal.append([record(number + at) for at in range(chance.randint(1, 3))])
            number = wal.next_lsn
        if chance.random() < 0.7:
            wal.sync()
            synced_bytes, acknowledged = path.stat().st_size, wal.next_lsn
    data = path.read_bytes()
    wal.close()
    tail = bytearray(data[synced_bytes:])
    match chance.randrange(4):
        case 0:
            tail = tail[: chance.randint(0, len(tail))]
        case 1:
            tail = bytearray(len(tail))
        case 2 if tail:
            hole = chance.randrange(len(tail))
            tail[hole : hole + 64] = bytes(len(tail[hole : hole + 64]))
        case _ if tail:
            hole = chance.randrange(len(tail))
            tail[hole:] = chance.randbytes(len(tail) - hole)
    path.write_bytes(data[:synced_bytes] + bytes(tail))
    with WriteAheadLog(tmp_path) as recovered:
        assert acknowledged <= recovered.next_lsn <= number
        kept = recovered.next_lsn
        assert recovered.append([record(kept)]) == kept
    assert stored(tmp_path) == expected(kept + 1)


def test_a_full_disk_rolls_back_and_the_log_stays_usable(tmp_path: Path) -> None:
    with WriteAheadLog(tmp_path) as wal:
        for number in range(10):
            wal.append([record(number)])
        wal.sync()
        (path,) = segments(tmp_path)
        size = path.stat().st_size
        with file_size_limit(size + 25), pytest.raises(StorageError, match="Free space"):
            wal.append([record(10), record(11)])
        assert path.stat().st_size == size and wal.next_lsn == 10
        assert stored(tmp_path) == expected(10)
        assert wal.append([record(10)]) == 10
        wal.sync()
    assert stored(tmp_path) == expected(11)


def test_a_full_disk_at_rotation_leaves_the_log_usable(tmp_path: Path) -> None:
    with WriteAheadLog(tmp_path, segment_bytes=400) as wal:
        number = 0
        while len(segments(tmp_path)) < 2:
            wal.append([record(number)])
            number += 1
        lsn = wal.next_lsn
        with file_size_limit(16), pytest.raises(StorageError):
            for _ in range(50):
                wal.append([record(wal.next_lsn)])
        assert wal.next_lsn >= lsn
        wal.append([record(wal.next_lsn)])
        end = wal.next_lsn
    assert stored(tmp_path) == expected(end)
    assert not list(tmp_path.glob(".writing-*"))


def test_a_failed_sync_takes_nothing_more_until_reopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wal = WriteAheadLog(tmp_path)
    wal.append([record(0)])
    wal.sync()
    wal.append([record(1)])

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", refuse)
    with pytest.raises(StorageError, match="cannot be synced"):
        wal.sync()
    monkeypatch.undo()
    with pytest.raises(StorageError, match="failed earlier"):
        wal.append([record(2)])
    with pytest.raises(StorageError, match="failed earlier"):
        wal.sync()
    assert wal.synced_lsn == 1
    wal.close()
    with WriteAheadLog(tmp_path) as again:
        assert again.append([record(again.next_lsn)]) in (1, 2)


def test_an_oversized_record_is_refused(tmp_path: Path) -> None:
    with WriteAheadLog(tmp_path) as wal:
        with pytest.raises(TooLargeError):
            wal.append([record(0), {"text": "x" * (17 << 20)}])
        assert wal.next_lsn == 0 and wal.append([record(0)]) == 0


def test_a_reader_sees_whole_records_while_a_writer_appends(tmp_path: Path) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                found = stored(tmp_path)
                assert found == expected(len(found))
        except BaseException as error:
            failures.append(error)

    with WriteAheadLog(tmp_path, segment_bytes=2_000) as wal:
        thread = threading.Thread(target=read)
        thread.start()
        for number in range(300):
            wal.append([record(number)])
        stop.set()
        thread.join()
    assert failures == []


def test_one_thread_appends_while_another_syncs(tmp_path: Path) -> None:
    done = threading.Event()
    marks: list[int] = []

    def sync() -> None:
        while not done.is_set():
            marks.append(wal.sync())

    with WriteAheadLog(tmp_path, segment_bytes=3_000) as wal:
        thread = threading.Thread(target=sync)
        thread.start()
        for number in range(500):
            wal.append([record(number)])
        done.set()
        thread.join()
    assert marks == sorted(marks)
    assert stored(tmp_path) == expected(500)


def test_bounds(tmp_path: Path) -> None:
    assert wal_bounds(tmp_path) is None
    fill(tmp_path, 30, segment_bytes=500)
    assert wal_bounds(tmp_path) == (0, 30)


values = st.one_of(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans())
payloads = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "_available"), values, max_size=5)


@settings(max_examples=40)
@given(st.lists(st.lists(payloads, max_size=4), max_size=6), st.integers(100, 2_000))
def test_any_payload_survives(tmp_path_factory: pytest.TempPathFactory, groups: list[list[Record]], size: int) -> None:
    folder = tmp_path_factory.mktemp("wal")
    with WriteAheadLog(folder, segment_bytes=size) as wal:
        for group in groups:
            wal.append(group, now=7)
            wal.sync()
    found = list(read_wal(folder, 0))
    flat = [payload | {"_available": 7} for group in groups for payload in group]
    assert found == list(enumerate(flat))

"""Slates on disk stay within their limits: what goes, in which order, and what never does."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from bowerbird.declare.workspace import load_workspace
from bowerbird.server.observe.slate_metrics import SlateMetrics
from bowerbird.serving import slate_retention, slate_segments
from bowerbird.serving.slate_retention import SlateRetention, open_slates
from bowerbird.serving.slate_segments import segment_files, sole_remover
from bowerbird.serving.slates import SEGMENT_BYTES, SlateLog, iterate_slates
from tests.declare.test_workspace import write
from tests.serving.test_slates import slate

NOW = 1_700_000_000.0
DAY = 86_400.0


def make_segments(folder: Path, count: int) -> list[Path]:
    """Make segments of a slate each, the first written ``count`` days before ``NOW``, the last one day."""
    log = SlateLog(folder, segment_bytes=1)
    for number in range(count):
        log.append(slate(number))
    log.close()
    files = segment_files(folder)
    for number, file in enumerate(files):
        os.utime(file, (NOW - (count - number) * DAY,) * 2)
    return files


def size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def left(folder: Path) -> list[int]:
    return [each.lsn for each in iterate_slates(folder)]


def test_the_oldest_segments_go_until_the_rest_fits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = make_segments(tmp_path, 10)
    kept, whole = size(files[6:]), size(files)
    retention = SlateRetention(tmp_path, kept, 0.0)
    with caplog.at_level(logging.INFO):
        retention.apply(NOW)
    assert left(tmp_path) == [6, 7, 8, 9]
    assert (retention.bytes, retention.removed_bytes, retention.removed_segments) == (kept, whole - kept, 6)
    assert [record.getMessage().split()[0] for record in caplog.records] == [file.name for file in files[:6]]
    assert f"all slates take {whole:,} bytes and may take {kept:,}" in caplog.messages[0]
    retention.apply(NOW)
    assert len(left(tmp_path)) == 4


def test_segments_older_than_the_limit_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_segments(tmp_path, 10)
    with caplog.at_level(logging.INFO):
        SlateRetention(tmp_path, 0, 2.5 * DAY).apply(NOW)
    assert left(tmp_path) == [8, 9]
    assert "its last slate is older than 2.5 days" in caplog.messages[0]


@pytest.mark.parametrize(("most_segments", "most_days", "stay"), [(3, 7.5, 3), (8, 2.5, 2), (8, 20.0, 8)])
def test_the_narrower_limit_decides(tmp_path: Path, most_segments: int, most_days: float, stay: int) -> None:
    files = make_segments(tmp_path, 10)
    SlateRetention(tmp_path, size(files[-most_segments:]), most_days * DAY).apply(NOW)
    assert left(tmp_path) == list(range(10 - stay, 10))


def test_without_limits_nothing_goes_and_without_slates_nothing_happens(tmp_path: Path) -> None:
    SlateRetention(tmp_path / "none", 1, DAY).apply(NOW)
    assert not (tmp_path / "none").exists()
    files = make_segments(tmp_path, 3)
    retention = SlateRetention(tmp_path, 0, 0.0)
    retention.apply(NOW)
    assert (retention.bytes, retention.removed_segments, len(left(tmp_path))) == (size(files), 0, 3)


def test_what_was_written_last_stays_longest_whenever_it_was_begun(tmp_path: Path) -> None:
    files = make_segments(tmp_path, 4)
    os.utime(files[0], (NOW, NOW))
    SlateRetention(tmp_path, size([files[0], files[3]]), 0.0).apply(NOW)
    assert left(tmp_path) == [0, 3]


def test_the_segment_that_is_written_stays_until_it_ends(tmp_path: Path) -> None:
    log = SlateLog(tmp_path, segment_seconds=0.0)
    log.append(slate(0))
    retention = SlateRetention(tmp_path, 1, 1.0)
    os.utime(segment_files(tmp_path)[0], (NOW - DAY, NOW - DAY))
    retention.apply(NOW)
    log.append(slate(1))
    assert (left(tmp_path), retention.removed_segments) == ([0, 1], 0)
    log.end_old_segment()
    log.append(slate(2))
    retention.apply(NOW)
    assert (left(tmp_path), retention.removed_segments) == ([2], 1)
    log.close()


def test_a_segment_ends_by_its_age_alone_where_that_is_limited(tmp_path: Path) -> None:
    log = SlateLog(tmp_path)
    log.append(slate(0))
    log.end_old_segment()
    log.append(slate(1))
    log.close()
    assert len(segment_files(tmp_path)) == 1


def test_a_segment_of_a_live_process_stays_and_of_a_killed_one_goes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.serving.slate_process", "write", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        retention = SlateRetention(tmp_path, 1, 0.0)
        retention.apply(NOW)
        assert (len(left(tmp_path)), retention.removed_segments) == (1, 0)
        writer.kill()
        writer.wait()
        retention.apply(NOW)
        assert (len(left(tmp_path)), retention.removed_segments) == (0, 1)


def test_processes_that_remove_at_once_remove_what_one_would(tmp_path: Path) -> None:
    files = make_segments(tmp_path, 300)
    command = [sys.executable, "-m", "tests.serving.slate_process", "remove", str(tmp_path), str(size(files[200:]))]
    removers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for remover in removers:
        assert remover.stdout is not None and remover.stdout.readline() == "ready\n"
    for remover in removers:
        assert remover.stdin is not None
        remover.stdin.write("go\n")
        remover.stdin.flush()
    counts = [int(remover.communicate(timeout=60)[0]) for remover in removers]
    assert all(remover.returncode == 0 for remover in removers)
    assert sum(counts) == 200
    assert left(tmp_path) == list(range(200, 300))


def test_nothing_is_removed_while_another_process_removes(tmp_path: Path) -> None:
    make_segments(tmp_path, 3)
    retention = SlateRetention(tmp_path, 1, 0.0)
    with sole_remover(tmp_path) as alone:
        assert alone
        retention.apply(NOW)
    assert len(left(tmp_path)) == 3
    retention.apply(NOW)
    assert not left(tmp_path)


def test_a_segment_that_is_removed_before_its_writer_has_locked_it_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(slate_segments.fcntl, "flock", real)
        segment_files(tmp_path)[0].unlink()
        real(descriptor, operation)

    monkeypatch.setattr(slate_segments.fcntl, "flock", late)
    log = SlateLog(tmp_path)
    log.append(slate(0))
    log.close()
    assert (left(tmp_path), log.lost) == ([0], 0)


def test_a_segment_that_cannot_be_removed_is_told_once_and_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = make_segments(tmp_path, 3)
    real = slate_segments.remove_segment

    def refuse_first(file: Path) -> bool:
        if file == files[0]:
            raise PermissionError(1, "Operation not permitted")
        return real(file)

    monkeypatch.setattr(slate_retention, "remove_segment", refuse_first)
    retention = SlateRetention(tmp_path, 1, 0.0)
    retention.apply(NOW)
    retention.apply(NOW)
    assert left(tmp_path) == [0]
    assert [message for message in caplog.messages if "cannot be removed" in message] == [
        f"{files[0]} cannot be removed: [Errno 1] Operation not permitted"
    ]


def test_slates_that_go_before_their_labels_are_mature_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_segments(tmp_path, 5)
    SlateRetention(tmp_path, 1, 0.0, needed_seconds=2.5 * DAY).apply(NOW)
    assert [message for message in caplog.messages if "raise slates_size" in message] == [
        "slates are removed after 48.0 h, and labels are mature after 60.0 h: `bowerbird report` cannot judge what was "
        "served before; raise slates_size and slates_days under [server]"
    ]


@pytest.mark.parametrize(
    ("settings", "segment_bytes", "segment_seconds"),
    [
        ("", SEGMENT_BYTES, float("inf")),
        ('slates_size = "64MB"\nworkers = 4\nslates_days = 1', 2 << 20, DAY / 8),
        ('slates_size = "0"', SEGMENT_BYTES, float("inf")),
    ],
)
def test_segments_are_small_beside_what_is_kept(
    tmp_path: Path, settings: str, segment_bytes: int, segment_seconds: float
) -> None:
    log, _ = open_slates(load_workspace(write(tmp_path, settings=f"[server]\n{settings}\n")))
    assert (log._segment_bytes, log._segment_seconds) == (segment_bytes, segment_seconds)


@pytest.mark.parametrize("writes_events", [True, False])
def test_one_process_tells_the_size_of_the_folder_and_each_what_it_did(tmp_path: Path, writes_events: bool) -> None:
    files = make_segments(tmp_path, 3)
    retention = SlateRetention(tmp_path, size(files[1:]), 0.0)
    removed = files[0].stat().st_size
    retention.apply(NOW)
    registry = CollectorRegistry()
    SlateMetrics(registry).observe(SlateLog(tmp_path), retention, writes_events)
    names = ("bytes", "removed_segments", "removed_bytes", "lost")
    shown = [registry.get_sample_value(f"bowerbird_slates_{name}") for name in names]
    assert shown == [size(files[1:]) if writes_events else 0, 1, removed, 0]

"""Load tests of a server with a known stall: the percentiles must show it, and errors have names."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bowerbird.cli import bench
from bowerbird.cli.main import run
from bowerbird.errors import InputError
from bowerbird.loadtest.arrivals import poisson, recorded
from bowerbird.loadtest.generator import Samples
from bowerbird.loadtest.measured import Measured, measured
from bowerbird.loadtest.requests import (
    Request,
    Target,
    recorded_times,
    requests_of_file,
    requests_of_slates,
)
from bowerbird.loadtest.run import LoadTest
from tests.loadtest.peer import ROOT, running

STALL = 0.6


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running() as found:
        yield found


def load(address: str, path: str = "/", **more: object) -> Measured:
    settings = {"seconds": 0.5, "warm_up": 0.1, **more}
    (found,) = LoadTest(Target.of(address), [Request(path, b"{}")], **settings).run()  # type: ignore[arg-type]
    return found


def test_an_open_loop_shows_a_stall_in_all_requests_that_it_held_up() -> None:
    with running(stall_at=1.0, stall_seconds=STALL) as address:
        found = load(address, rates=[200.0], seconds=2.0, warm_up=0.5, connections=4)
    assert not found.errors
    assert found.greatest > 0.9 * STALL * 1e3
    held = STALL / 2.0
    assert found.p90 > (1 - 0.1 / held) * STALL * 1e3 * 0.8
    assert found.p50 < 0.5 * found.p90
    assert found.waited > 50


def test_a_closed_loop_hides_the_same_stall() -> None:
    with running(stall_at=1.0, stall_seconds=STALL) as address:
        found = load(address, closed=[4], seconds=2.0, warm_up=0.5)
    assert found.greatest > 0.9 * STALL * 1e3
    assert found.p99 < 0.3 * STALL * 1e3


def test_requests_come_at_the_stated_rate(address: str) -> None:
    test = LoadTest(Target.of(address), [Request("/", b"{}")], rates=[100.0, 400.0], seconds=1.0, warm_up=0.2)
    slow, fast = test.run()
    assert slow.offered == 100.0 and abs(slow.requests - 100) < 50
    assert abs(fast.requests - 400) < 100
    assert not fast.errors
    assert abs(fast.answered - fast.requests) < 100
    assert fast.p50 <= fast.p90 <= fast.p99 <= fast.p999 <= fast.greatest


def test_processes_share_a_rate_and_connections(address: str) -> None:
    test = LoadTest(
        Target.of(address), [Request("/", b"{}")], rates=[300.0], closed=[3], seconds=0.5, warm_up=0.1, processes=2
    )
    closed, opened = test.run()
    assert closed.connections == 3 and closed.answered > 0
    assert abs(opened.requests - 150) < 75 and not opened.errors


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/full", "status 429"),
        ("/drop", "disconnected"),
        ("/odd", "malformed answer"),
        ("/not-chunks", "malformed answer"),
        ("/slow", "timeout"),
    ],
)
def test_errors_have_names(address: str, path: str, kind: str) -> None:
    found = load(address, path, rates=[50.0], timeout=0.2)
    assert set(found.errors) == {kind} and found.errors[kind] == found.requests
    assert found.said == ({kind: "[no room]"} if path == "/full" else {})
    assert (found.answered, found.goodput) == (0.0, 0.0) and np.isnan(found.p99)


def test_nobody_listening_is_named_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for how in ({"rates": [50.0]}, {"closed": [2]}):
        found = load(f"http://127.0.0.1:{port}", **how)
        assert set(found.errors) == {"no connection"} and found.answered == 0.0


def test_who_finds_no_connection_in_time_gives_up(address: str) -> None:
    found = load(address, "/slow", rates=[100.0], connections=2, timeout=0.2)
    assert found.errors == {"timeout": found.requests} and found.waited > 0


@pytest.mark.parametrize("path", ["/parts", "/once", "/chunks"])
def test_answers_in_parts_and_single_use_connections(address: str, path: str) -> None:
    found = load(address, path, rates=[50.0])
    assert not found.errors and found.answered > 0


def samples(lag: float = 0.0, busy: float = 0.1) -> Samples:
    intended = np.arange(1000) / 100.0
    sent = intended + lag
    return Samples(intended, intended, sent, sent + 0.002, np.full(1000, 200), 10.0, busy * 10.0, {})


def measure(one: Samples, deadline: float = 0.1) -> Measured:
    return measured([one], "open", 100.0, 8, (1.0, 9.0), deadline)


def test_a_generator_that_cannot_keep_up_says_so() -> None:
    assert measure(samples()).bottleneck == ""
    assert "held 1% of the requests back for 5.00 ms" in measure(samples(lag=0.005)).bottleneck
    assert "95% of the time" in measure(samples(busy=0.95)).bottleneck


def test_goodput_counts_what_came_in_time() -> None:
    assert measure(samples(), deadline=0.01).goodput == pytest.approx(100.0)
    assert measure(samples(), deadline=0.001).goodput == 0.0
    assert measure(samples()).requests == 800


def test_poisson_gaps_vary_as_they_should() -> None:
    times = poisson(1000.0, 100.0)
    gaps = np.diff(times)
    assert times[0] >= 0.0 and times[-1] < 100.0
    assert gaps.mean() == pytest.approx(1e-3, rel=0.02) and gaps.std() == pytest.approx(gaps.mean(), rel=0.02)
    assert not np.array_equal(times, poisson(1000.0, 100.0, seed=1))


def test_recorded_gaps_keep_their_proportions() -> None:
    times = recorded([10.0, 11.0, 11.5, 14.0], rate=3.0, seconds=2.5)
    np.testing.assert_allclose(times, [0.0, 0.25, 0.375, 1.0, 1.25, 1.375, 2.0, 2.25, 2.375])
    with pytest.raises(InputError, match="no recorded times"):
        recorded_times([Request("/", b""), Request("/", b"")])


def test_a_file_of_requests(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"path": "/a", "body": {"user": 1}, "time": 2}\n\n{"user": 2}\n{"path": "/b", "method": "GET"}\n')
    found = requests_of_file(file, "/default", 10)
    assert found == [
        Request("/a", b'{"user":1}', 2.0),
        Request("/default", b'{"user": 2}'),
        Request("/b", b"", 0.0, "GET"),
    ]
    assert len(requests_of_file(file, "/default", 2)) == 2
    with pytest.raises(InputError, match=r"asked.jsonl:3 has no path"):
        requests_of_file(file, "", 10)
    file.write_text("{")
    with pytest.raises(InputError, match=r"asked.jsonl:1 is not a request"):
        requests_of_file(file, "/", 10)
    for empty in (file, tmp_path / "missing"):
        file.write_text("")
        with pytest.raises(InputError):
            requests_of_file(empty, "/", 10)
    with pytest.raises(InputError, match="No slate was served yet"):
        requests_of_slates([], 10)


def test_only_plain_http_is_loaded() -> None:
    for address in ("https://example.com", "127.0.0.1:8765"):
        with pytest.raises(InputError, match="not an address"):
            Target.of(address)
    target = Target.of("http://127.0.0.1:80", key="k", deadline_ms=50.0)
    encoded = target.encode(Request("/x", b"{}"))
    assert encoded.startswith(b"POST /x HTTP/1.1\r\nhost: 127.0.0.1:80\r\n") and encoded.endswith(b"\r\n\r\n{}")
    assert b"authorization: Bearer k" in encoded and b"x-deadline-ms: 50" in encoded and b"content-length: 2" in encoded


def test_the_command_prints_writes_and_draws(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "console", Console(width=160))
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"path": "/", "body": {"user": 1}}\n')
    project = ROOT / "examples" / "movielens"
    arguments = ["bench", "--project", str(project), "--address", address, "--requests", str(asked)]
    assert run(arguments) == 1
    assert "No load is stated" in capsys.readouterr().err
    arguments += ["--rate", "50", "--rate", "100", "--closed", "2", "--seconds", "0.4", "--warm-up", "0.1"]
    figures, picture = tmp_path / "out.json", tmp_path / "plots" / "load.png"
    assert run([*arguments, "--json", str(figures), "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "p99.9" in said and "closed, 2" in said and "100/s" in said
    found = json.loads(figures.read_text())
    assert [each["loop"] for each in found] == ["closed", "open", "open"]
    assert picture.read_bytes()[:4] == b"\x89PNG"
    asked.write_text('{"path": "/full", "body": {"user": 1}}\n')
    assert run(arguments) == 0
    assert "status 429: [no room]" in capsys.readouterr().out

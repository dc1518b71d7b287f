"""Whole requests against LitServe, BentoML and Ray Serve with ONNX Runtime behind the same JSON, by processes.

    python -m bench.serving [--candidates 200 500] [--processes 1] [--rounds 3] [--seconds 2]

KuaiRand's DIN of ``bench.accuracy``. Ours reads features from live state, scores and logs the slate; the peers have
their features ready-made in memory and return logits alone. Equal scores are checked first, on every request. All
servers run at once on the last cores, one for each process that scores; those that are not measured are stopped
(SIGSTOP). The load generator stands on the first core, beside a server where there are as many processes as cores: so
requests are counted against the cores that there are, and against the processor time that the server itself used, too.
Rounds are interleaved. Needs ``bench/peers/serving.sh``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from bench.accuracy import samples_by_date, trained
from bench.common import WORK, Row, write
from bench.kuairand import sampled
from bench.serving.cases import Case, make_bodies, make_cases
from bench.serving.events import Events
from bench.serving.http_layer import http_rows
from bench.serving.processor_time import ProcessorTime
from bench.serving.served import served_workspace
from bowerbird.declare.workspace import load_workspace
from bowerbird.loadtest.measured import Measured
from bowerbird.loadtest.requests import Request, Target
from bowerbird.loadtest.run import LoadTest
from bowerbird.training.batches.dataset import SampleFolder

PEERS = Path(__file__).parents[1] / "peers"
PYTHON = WORK / "serving-venv" / "bin" / "python"
OURS, OUR_PATH, PEER_PATH = "bowerbird", "/v1/scenes/feed/score", "/score"
PORTS = {OURS: 18700, "LitServe": 18701, "BentoML": 18702, "Ray Serve": 18703}
EQUAL = 2e-3
CONNECTIONS = 8
BODIES = 32
EVENTS = 5_000.0
START_SECONDS = 300.0
_WITHIN = 0.9
"""The share of a closed loop, its last part, in which processor time is counted: the loop is under way."""
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Server:
    """A running server and its processes' root."""

    name: str
    process: subprocess.Popen[bytes]
    path: str

    @property
    def processes(self) -> list[int]:
        """The process and all that it started."""
        return [self.process.pid, *descendants(self.process.pid)]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{PORTS[self.name]}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        for pid in self.processes:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def ask(self, body: bytes) -> httpx.Response:
        return httpx.post(self.address + self.path, content=body, headers=_JSON, timeout=30.0, trust_env=False)


def descendants(root: int) -> list[int]:
    """Return the processes that a process started, and theirs."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found, frontier = [], {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found += sorted(frontier)
    return found


def commands(project: Path, processes: int) -> dict[str, list[str]]:
    """Return how each server is started."""
    bowerbird = [
        sys.executable, "-m", "bowerbird.cli.main", "serve", "--project", str(project), "--workers", str(processes),
    ]  # fmt: skip
    return {
        OURS: [*bowerbird, "--port", str(PORTS[OURS])],
        "LitServe": [str(PYTHON), "serving_litserve.py", str(PORTS["LitServe"])],
        "BentoML": [
            str(PYTHON), "-m", "bentoml", "serve", "serving_bentoml:Score", "--host", "127.0.0.1",
            "--port", str(PORTS["BentoML"]),
        ],
        "Ray Serve": [str(PYTHON), "serving_ray.py", str(PORTS["Ray Serve"])],
    }  # fmt: skip


@contextmanager
def running(name: str, command: list[str], cases: Path, body: bytes, processes: int) -> Iterator[Server]:
    """Run a server on the last cores until it answers; stop it with all its processes at the end."""
    environment = {
        **os.environ, "SERVING_CASES": str(cases), "SERVING_PROCESSES": str(processes), "OMP_NUM_THREADS": "1",
        "BENTOML_DO_NOT_TRACK": "1",
    }  # fmt: skip
    cores = sorted(os.sched_getaffinity(0))[-processes:]
    process = subprocess.Popen(
        command, env=environment, cwd=None if name == OURS else PEERS,
        stdout=subprocess.DEVNULL, stderr=(WORK / f"serving-{name}.log").open("wb"),
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    server = Server(name, process, OUR_PATH if name == OURS else PEER_PATH)
    try:
        _wait(server, body)
        yield server
    finally:
        server.signal(signal.SIGCONT)
        started = descendants(process.pid)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
        for pid in started:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _wait(server: Server, body: bytes) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if server.ask(body).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"{server.name} does not answer: see {WORK}/serving-{server.name}.log")


def difference(case: Case, server: Server) -> float:
    """Return how far a peer's scores lie from ours at most, over all requests."""
    server.signal(signal.SIGCONT)
    return max(
        case.largest_difference(user, server.ask(body).raise_for_status().json()["scores"])
        for user, body in case.bodies.items()
    )


@dataclass
class Rounds:
    """By server and load what each round showed; ``cores`` are those that a server's closed loops kept busy."""

    loads: dict[tuple[str, str], list[Measured]] = field(default_factory=dict)
    cores: dict[str, list[float]] = field(default_factory=dict)

    def used(self, name: str) -> list[float]:
        """Return each closed loop's requests in a second of a core that the server used."""
        loops = self.loads[name, "closed"]
        return [one.answered / cores for one, cores in zip(loops, self.cores[name], strict=True)]


def measure(case: Case, servers: list[Server], rounds: int, seconds: float) -> Rounds:
    """Return what each round showed: closed loop, then open at a common rate and at its own."""
    shown = Rounds()
    found = shown.loads

    def load(server: Server, what: str, **how: object) -> Measured:
        requests = [Request(server.path, body) for body in case.bodies.values()]
        server.signal(signal.SIGCONT)
        test = LoadTest(Target.of(server.address), requests, seconds=seconds, warm_up=0.5, deadline=0.1, **how)  # type: ignore[arg-type]
        time_used = ProcessorTime(server.processes)
        with time_used.sampled():
            (one,) = test.run()
        server.signal(signal.SIGSTOP)
        assert not one.errors, (server.name, what, one.errors)
        if what == "closed":
            shown.cores.setdefault(server.name, []).append(time_used.cores(_WITHIN * seconds))
        found.setdefault((server.name, what), []).append(one)
        return one

    for server in servers:
        server.signal(signal.SIGSTOP)
    for number in range(rounds):
        rates = {server.name: load(server, "closed", closed=[CONNECTIONS]).answered for server in servers}
        common = 0.5 * min(rates.values()) if number == 0 else found[OURS, "common"][0].offered
        for server in servers:
            load(server, "common", rates=[common], seed=number)
            own = 0.7 * rates[server.name] if number == 0 else found[server.name, "own"][0].offered
            load(server, "own", rates=[own], seed=number)
    return shown


def rows_of(case: Case, shown: Rounds, differences: dict[str, float], processes: int) -> list[Row]:
    """Return a row by peer and figure: ours beside it."""
    rows, found = [], shown.loads
    for name, far in differences.items():
        equal, note = far <= EQUAL, f"scores differ by at most {far:.1e}"
        title = f"{case.candidates} candidates, {name}"
        ours, theirs = (_median(found[each, "closed"], "answered") / processes for each in (OURS, name))
        spread = ", ".join(f"{each.answered / processes:.0f}" for each in found[OURS, "closed"])
        rows.append(
            Row(
                f"{title}: closed loop, {CONNECTIONS} connections", ours, "requests/s a core", theirs, ours / theirs,
                equal, f"{note}; our rounds {spread}",
            )
        )  # fmt: skip
        mine, other = (median(shown.used(each)) for each in (OURS, name))
        rows.append(
            Row(
                f"{title}: closed loop, by the server's own processor time", mine, "requests a core-second", other,
                mine / other, equal, f"our rounds {', '.join(f'{each:.0f}' for each in shown.used(OURS))}",
            )
        )  # fmt: skip
        for what in ("common", "own"):
            rates = found[OURS, what][0].offered, found[name, what][0].offered
            pace = f"{rates[0]:.0f}/s" if what == "common" else f"70% of its own: {rates[0]:.0f}/s, {rates[1]:.0f}/s"
            for figure in ("p50", "p99", "p999"):
                ours, theirs = (_median(found[each, what], figure) for each in (OURS, name))
                rows.append(Row(f"{title}: open loop, {pace}, {figure}", ours, "ms", theirs, theirs / ours, equal))
    lags = [one.bottleneck for each in found.values() for one in each if one.bottleneck]
    rows.append(Row(f"{case.candidates} candidates: runs in which the generator was late", float(len(lags)), "runs"))
    return rows


def events_rows(case: Case, server: Server, rate: float, seconds: float) -> list[Row]:
    """Return our closed loop with and without events beside it."""
    requests = [Request(OUR_PATH, body) for body in case.bodies.values()]

    def answered() -> float:
        return LoadTest(
            Target.of(server.address), requests, closed=[CONNECTIONS], seconds=seconds, warm_up=0.5
        ).run()[0].answered  # fmt: skip

    alone = answered()
    events = Events(PORTS[OURS], rate, list(case.bodies.values()))
    events.start()
    beside = answered()
    events.stop()
    title = (
        f"{case.candidates} candidates, {events.rate:,.0f} events/s beside (peer: none): closed loop"
    )
    return [Row(title, beside, "requests/s", alone, beside / alone)]


def _median(found: list[Measured], figure: str) -> float:
    return median(getattr(each, figure) for each in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, nargs="+", default=[200, 500])
    parser.add_argument("--processes", type=int, default=1, help="That score, of each server.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--keep", action="store_true", help="Serve the workspace of an earlier run again.")
    arguments = parser.parse_args()
    processes = arguments.processes
    source = sampled()
    run, _ = trained(source, SampleFolder(samples_by_date(source)), "din", seed=0)
    folder = WORK / "kuairand-served"
    workspace = load_workspace(folder) if arguments.keep else served_workspace("din")
    bodies = make_bodies(workspace, arguments.candidates, BODIES)
    first = next(iter(bodies[arguments.candidates[0]].values()))
    cases_folder = WORK / "serving-cases"
    shutil.rmtree(cases_folder, ignore_errors=True)
    cases_folder.mkdir()
    rows: list[Row] = []
    with ExitStack() as stack:
        servers: list[Server] = []
        cases: list[Case] = []
        for name, command in commands(folder, processes).items():
            servers.append(stack.enter_context(running(name, command, cases_folder, first, processes)))
            if name == OURS:
                cases = make_cases(workspace, run, bodies, servers[0].address, cases_folder)
        os.sched_setaffinity(0, {0})
        for case in cases:
            differences = {server.name: difference(case, server) for server in servers[1:]}
            rows += rows_of(case, measure(case, servers, arguments.rounds, arguments.seconds), differences, processes)
            servers[0].signal(signal.SIGCONT)
            if processes == 1:
                rows += http_rows(case.candidates, PORTS[OURS], OUR_PATH, list(case.bodies.values()), arguments.seconds)
            rows += events_rows(case, servers[0], EVENTS, 3 * arguments.seconds)
    name = "serving" if processes == 1 else f"serving_{processes}"
    write(name, rows, arguments=f"--processes {processes}")


if __name__ == "__main__":
    main()

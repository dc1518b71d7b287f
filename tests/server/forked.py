"""``bowerbird serve`` in children forked from one process that has imported everything: a start without the imports.

python -m tests.server.forked BUNDLE reads lines of JSON (``Orders``); it answers each with ``pid N``, what the child
prints, and ``ended STATUS``. A child ends when the process that gave the orders does.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

import msgspec

from bowerbird.plan.state import FeatureState
from tests.server.process import ROOT

_TICK_SECONDS = 0.05


class Orders(msgspec.Struct, frozen=True):
    """What to serve and how to die: ``delay`` seconds after the ``snapshot``-th snapshot began, or never at 0.

    With ``notes`` the disk is one that loses power (``tests.server.lossy``).
    """

    project: str
    notes: str = ""
    snapshot: int = 0
    delay: float = 0.0


class ForkingProcess:
    """The process that forks servers, one at a time."""

    def __init__(self, bundle: Path, log: Path) -> None:
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.server.forked", str(bundle)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                cwd=ROOT,
                text=True,
            )

    def fork(self, orders: Orders) -> ForkedServer:
        """Begin a server; it is not ready yet."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(orders).decode() + "\n")
        self._process.stdin.flush()
        return ForkedServer(self._process)

    def __enter__(self) -> ForkingProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


class ForkedServer:
    """A server that was begun."""

    def __init__(self, parent: subprocess.Popen[str]) -> None:
        self._parent = parent
        self._ended = False
        self.pid = int(self._line_with("pid ").split()[1])

    def wait_until_ready(self) -> str:
        """Return the address; empty where the server ended before."""
        line = self._line_with("Ready at ")
        return "" if self._ended else line.split()[2]

    def signal(self) -> None:
        """Send it SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until it was killed; raises AssertionError where it ended otherwise."""
        while not self._ended:
            self._line_with("ended ")

    def _line_with(self, start: str) -> str:
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            if line.startswith("ended "):
                self._ended = True
                assert int(line.split()[1]) == -signal.SIGKILL, line
            if self._ended or line.startswith(start):
                return line
        raise AssertionError("the forking process ended")


def die_in_snapshot(number: int, delay: float) -> None:
    """Make this process die so many seconds after its ``number``-th snapshot began."""
    original, count = FeatureState.snapshot, itertools.count(1)

    def snapshot(self: FeatureState, path: Path) -> None:
        if next(count) == number:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        original(self, path)

    FeatureState.snapshot = snapshot  # type: ignore[method-assign]


def _serve(orders: Orders) -> None:
    from bowerbird.cli.main import main
    from bowerbird.serving import state_keeper
    from tests.server.lossy import lose_power

    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    state_keeper._TICK_SECONDS = _TICK_SECONDS
    if orders.notes:
        lose_power(Path(orders.notes))
    if orders.snapshot:
        die_in_snapshot(orders.snapshot, orders.delay)
    main(["serve", "--project", orders.project, "--port", "0"])


def _end_with_standard_input() -> None:
    os.read(0, 1)
    os._exit(1)


def _import_everything(bundle: Path) -> None:
    """Import what a server does, by loading a model on this one thread."""
    import torch

    from bowerbird.bundles.bundle import read_bundle
    from bowerbird.server import run  # noqa: F401

    torch.set_num_threads(1)
    read_bundle(bundle).load_scorer()
    assert threading.active_count() == 1


def _main() -> None:
    _import_everything(Path(sys.argv[1]))
    for line in sys.stdin:
        orders = msgspec.json.decode(line, type=Orders)
        child = os.fork()
        if child == 0:
            try:
                _serve(orders)
            finally:
                os._exit(1)
        print(f"pid {child}", flush=True)
        _, status = os.waitpid(child, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    _main()

"""Several server processes on one port: the supervisor accepts connections and hands them out, and keeps workers alive.

A worker that dies takes its own connections with it and no other: whoever connects is given to the worker with the
least to do. Where a worker has more to do than another, it gives some of its connections back, for that one. The writer
is worker 0; readers start once it is ready, and go on answering while it is started again.
"""

from __future__ import annotations

import importlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bowerbird.declare.workspace import Workspace
from bowerbird.errors import BowerbirdError, UnavailableError
from bowerbird.server.processes.balance import Balance
from bowerbird.server.processes.handover import (
    Busy,
    Connections,
    Failed,
    GiveAway,
    Message,
    Ready,
    hand_over,
    handover_pair,
    received,
    tell,
)
from bowerbird.server.processes.takers import Worker, takers
from bowerbird.server.web.http_server import DRAIN_SECONDS
from bowerbird.serving.collector import pass_over_imports

_LOG = logging.getLogger("bowerbird.server")
_WRITER = 0
_TICK_SECONDS = 0.2
_ACCEPTED_AT_ONCE = 64
_SHORT_LIFE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0
_STOP_SECONDS = DRAIN_SECONDS + 15.0
_PARTS = ("bowerbird.server.processes.worker",)
"""What is imported before workers are forked, so that they share its memory and start at once."""


class Supervisor:
    """Runs ``workers`` processes until SIGTERM or SIGINT, then drains them, the writer last.

    ``on_ready`` is told what is served once all are ready. Raises what kept a worker from starting at first.
    """

    def __init__(
        self,
        workspace: Workspace,
        listening: socket.socket,
        workers: int,
        folder: Path,
        on_ready: Callable[[list[str]], None],
    ) -> None:
        self._workspace = workspace
        self._listening = listening
        self._count = workers
        self._folder = folder
        self._on_ready = on_ready
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, Worker] = {}
        self._due: dict[int, float] = {_WRITER: 0.0}
        self._pauses: dict[int, float] = {}
        self._balance = Balance()
        self._target = _WRITER
        self._announced = False
        self._stopping = False
        self._error: BowerbirdError | None = None

    def run(self) -> None:
        """Serve until told to stop."""
        for module in _PARTS:
            importlib.import_module(module)
        pass_over_imports()
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        former = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stopping and self._error is None:
                self._tick()
            self._drain()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
        if self._error is not None:
            raise self._error

    def _tick(self) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now and self._may_start(number)]:
            del self._due[number]
            self._fork(number)
        for key, _ in self._selector.select(_TICK_SECONDS):
            key.data()
        self._reap()

    def _may_start(self, number: int) -> bool:
        """Return whether a worker can start now: readers ask the writer for what they need, so they wait for it."""
        return number == _WRITER or (_WRITER in self._workers and self._workers[_WRITER].ready)

    def _fork(self, number: int) -> None:
        ours, theirs = handover_pair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(number, ours, theirs)
        theirs.close()
        worker = Worker(number, pid, ours, time.monotonic())
        self._workers[number] = worker
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(worker))

    def _become(self, number: int, ours: socket.socket, theirs: socket.socket) -> None:
        """Be a worker from here on: nothing of the supervisor's stays open."""
        from bowerbird.server.processes.worker import WorkerPlace, run_worker

        code = 1
        try:
            for signal_number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signal_number, signal.SIG_DFL)
            self._selector.close()
            self._listening.close()
            ours.close()
            for other in self._workers.values():
                other.end.close()
            code = run_worker(self._workspace, WorkerPlace(number, theirs, self._folder))
        except BaseException:
            _LOG.exception("worker %d ended by an error", number)
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._give(connection)

    def _give(self, connection: socket.socket, first: int | None = None) -> None:
        """Give a connection to the first worker that takes it; where it is ready, ``first`` is asked first."""
        for worker in takers(self._workers.values(), first):
            if hand_over(worker.end, connection):
                worker.load.given += 1
                worker.load.given_since += 1
                return

    def _hear(self, worker: Worker) -> None:
        found, more = received(worker.end)
        for each in found:
            if isinstance(each, socket.socket):
                with each:
                    self._give(each, self._target)
            else:
                self._learn(worker, each)
        if not more:
            self._forget(worker)

    def _learn(self, worker: Worker, told: Message) -> None:
        if isinstance(told, Connections):
            worker.load.taken, worker.load.open = told.taken, told.open
        elif isinstance(told, Busy):
            worker.load.note(told.cores)
            self._balance.note(worker.number, told.cores)
            self._even_out()
        elif isinstance(told, Ready):
            self._is_ready(worker, told.summary)
        elif isinstance(told, Failed):
            self._failed(worker, told)

    def _even_out(self) -> None:
        """Let a worker give back connections where another one has less to do."""
        move = self._balance.move([each.number for each in self._workers.values() if each.ready])
        if move is not None:
            self._target = move.target
            tell(self._workers[move.source].end, GiveAway(move.cores))

    def _is_ready(self, worker: Worker, summary: list[str]) -> None:
        worker.ready = True
        if self._announced:
            _LOG.warning("worker %d answers again (process %d)", worker.number, worker.pid)
            return
        if worker.number == _WRITER:
            self._due.update({number: 0.0 for number in range(1, self._count)})
        if sum(each.ready for each in self._workers.values()) == self._count:
            self._announced = True
            self._on_ready(summary)

    def _failed(self, worker: Worker, failed: Failed) -> None:
        if self._announced:
            _LOG.error("worker %d could not start: %s %s", worker.number, failed.what, failed.remedy)
        else:
            self._error = failed.error()

    def _forget(self, worker: Worker) -> None:
        """A worker's end is closed: it has died or is about to."""
        if self._workers.get(worker.number) is worker:
            self._selector.unregister(worker.end)
            worker.end.close()
            os.kill(worker.pid, signal.SIGKILL)
            del self._workers[worker.number]
            _wait(worker.pid)
            self._start_again(worker)

    def _reap(self) -> None:
        """Notice workers that ended although their ends are still open, in a process of theirs for instance."""
        for worker in list(self._workers.values()):
            if _ended(worker.pid):
                self._selector.unregister(worker.end)
                worker.end.close()
                del self._workers[worker.number]
                self._start_again(worker)

    def _start_again(self, worker: Worker) -> None:
        if self._stopping:
            return
        if not self._announced:
            self._error = self._error or UnavailableError(
                f"Worker {worker.number} ended while it started.", "See the server's log."
            )
            return
        lived = time.monotonic() - worker.started
        pause = min(_LONGEST_PAUSE_SECONDS, 2 * self._pauses.get(worker.number, 0.25))
        self._pauses[worker.number] = pause if lived < _SHORT_LIFE_SECONDS else 0.0
        self._due[worker.number] = time.monotonic() + self._pauses[worker.number]
        _LOG.warning("worker %d (process %d) has ended; it is started again", worker.number, worker.pid)

    def _stop(self, number: int, frame: Any) -> None:
        if self._stopping:
            for worker in self._workers.values():
                os.kill(worker.pid, signal.SIGKILL)
        self._stopping = True

    def _drain(self) -> None:
        """Take no new connection; let the readers answer what is in flight, then the writer."""
        self._stopping = True
        self._selector.unregister(self._listening)
        self._listening.close()
        readers = [each for each in self._workers.values() if each.number != _WRITER]
        writer = [each for each in self._workers.values() if each.number == _WRITER]
        for group in (readers, writer):
            for worker in group:
                os.kill(worker.pid, signal.SIGTERM)
            _wait_all([worker.pid for worker in group], _STOP_SECONDS)
            for worker in group:
                worker.end.close()


def _ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _wait(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def _wait_all(pids: list[int], seconds: float) -> None:
    """Wait for processes to end; those that do not are killed."""
    deadline = time.monotonic() + seconds
    remaining = list(pids)
    while remaining and time.monotonic() < deadline:
        remaining = [pid for pid in remaining if not _ended(pid)]
        time.sleep(0.02)
    for pid in remaining:
        _LOG.error("process %d did not stop within %.0f s and is killed", pid, seconds)
        os.kill(pid, signal.SIGKILL)
        _wait(pid)

"""The real server as a child process, stopped whatever happens."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from bowerbird.errors import UnavailableError

_READY = re.compile(r"Ready at (\S+)")
_START_SECONDS = 180.0
_STOP_SECONDS = 30.0


class LiveServer:
    """``bowerbird serve`` on a free port, as a context manager; ``address`` is where it answers."""

    def __init__(self, project: Path, log: Path) -> None:
        self._project = project
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def __enter__(self) -> LiveServer:
        command = [sys.executable, "-m", "bowerbird.cli.main", "serve", "--port", "0", "--project", str(self._project)]
        with self._log.open("wb") as log:
            # Its own session: Ctrl-C reaches the demo alone, which then stops the server in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.address = self._wait(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            printed = self._log.read_text(errors="replace")
            found = _READY.search(printed)
            if found:
                return found[1]
            if process.poll() is not None:
                raise UnavailableError(f"The server did not start:\n{printed.strip()}", "Correct that, and run again.")
            time.sleep(0.05)
        raise UnavailableError(f"The server is not ready after {_START_SECONDS:.0f} s.", f"See {self._log}.")

    def _stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

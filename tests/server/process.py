"""A real server process on a free port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace

_SECONDS = 120.0
ROOT = Path(__file__).parents[2]


class ServerProcess:
    """``bowerbird serve`` as a child process; ready when constructed. Modules in ``first`` come before all others."""

    def __init__(self, workspace: Workspace, *options: str, first: Path = ROOT) -> None:
        self.workspace = workspace
        self.said: list[str] = []
        self._log = (workspace.folder / "serve.log").open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "bowerbird.cli.main", "serve", "--project", str(workspace.folder), "--port", "0",
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (first, ROOT)))},
            cwd=workspace.folder,
        )
        self.address = self._wait()

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    @property
    def log(self) -> str:
        return (self.workspace.folder / "serve.log").read_text(errors="replace")

    def client(self, key: str = "") -> Client:
        return Client(self.address, key)

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        return self._end()

    def _end(self) -> int:
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return code

    def _wait(self) -> str:
        deadline = time.monotonic() + _SECONDS
        assert self.process.stdout is not None
        for line in iter(self.process.stdout.readline, b""):
            self.said.append(line.decode().rstrip())
            if line.startswith(b"Ready at "):
                return line.split()[2].decode()
            if time.monotonic() > deadline:
                break
        self._end()
        raise AssertionError(f"the server did not start: {self.log}")

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.stop()

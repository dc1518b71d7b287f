"""Run as a program: ingests a folder in forked children that are killed at a given step.

Reads lines ``FOLDER STEP`` and answers each with how the child ended. A step is a call that changes the disk;
step 0 means that nothing is killed, and the answer is then the number of steps.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bowerbird.log import ingest
from tests.log.shop import NOW, make_workspace


class Steps:
    """Counts steps and kills the process before the chosen one, or in the middle of writing a part."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal
        self.count = 0

    def wrap(self, owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def step(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.fatal:
                if name == "write_table":
                    original(*arguments, **named)
                    path = Path(arguments[1])
                    os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        setattr(owner, name, step)


def run_child(folder: str, fatal: int) -> None:
    steps = Steps(fatal)
    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (pq, "write_table")):
        steps.wrap(owner, name)
    ingest(make_workspace(Path(folder)), now=NOW)
    Path(folder, "steps").write_text(str(steps.count))


def main() -> None:
    for line in sys.stdin:
        folder, fatal = line.rsplit(maxsplit=1)
        child = os.fork()
        if child == 0:
            run_child(folder, int(fatal))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(f"killed {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {status}", flush=True)


if __name__ == "__main__":
    main()

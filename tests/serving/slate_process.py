"""Processes that write and remove slates, for tests that kill them and let several remove at once.

python -m tests.serving.slate_process write FOLDER
python -m tests.serving.slate_process remove FOLDER BYTES
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from bowerbird.serving.slate_retention import SlateRetention
from bowerbird.serving.slates import SlateLog
from tests.serving.test_slates import slate


def write(folder: Path) -> None:
    """Log a slate, then wait to be killed."""
    SlateLog(folder).append(slate(0))
    print("ready", flush=True)
    sys.stdin.read()


def remove(folder: Path, most_bytes: int) -> None:
    """Once told to, remove until the folder is small enough, and print how many segments that were."""
    retention = SlateRetention(folder, most_bytes, 0.0)
    print("ready", flush=True)
    sys.stdin.readline()
    retention.apply(time.time())
    while retention.bytes > most_bytes:
        retention.apply(time.time())
    print(retention.removed_segments, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        remove(Path(sys.argv[2]), int(sys.argv[3]))

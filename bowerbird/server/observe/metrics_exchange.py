"""One page of metrics for several processes: each writes its own to a file, whoever is asked joins them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from pathlib import Path

_SECONDS = 1.0
_SUFFIX = ".prom"
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (.*)$")


class MetricsExchange:
    """Writes a worker's metrics every second; ``text`` joins all workers', each sample with its ``worker``."""

    def __init__(self, folder: Path, number: int, own: Callable[[], bytes]) -> None:
        self._folder = folder
        self._number = number
        self._own = own

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            self._write()
            await asyncio.sleep(_SECONDS)

    def text(self) -> bytes:
        """Return every worker's metrics; the others' are up to a second old."""
        self._write()
        pages = {int(file.stem): file.read_text() for file in sorted(self._folder.glob(f"[0-9]*{_SUFFIX}"))}
        return joined(pages.items()).encode()

    def _write(self) -> None:
        temporary = self._folder / f".{self._number}{_SUFFIX}"
        temporary.write_bytes(self._own())
        temporary.replace(self._folder / f"{self._number}{_SUFFIX}")


def joined(pages: Iterable[tuple[int, str]]) -> str:
    """Return pages in Prometheus' text format as one, samples labelled by ``worker`` and grouped by metric."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for number, page in pages:
        metric = ""
        fresh = False
        for line in page.splitlines():
            if line.startswith("#"):
                name = line.split(" ", 3)[2]
                if name != metric:
                    metric, fresh = name, name not in heads
                if fresh:
                    heads.setdefault(metric, []).append(line)
            elif line:
                samples.setdefault(metric, []).append(_labelled(line, number))
    return "\n".join(line for metric, head in heads.items() for line in (*head, *samples.get(metric, ()))) + "\n"


def _labelled(sample: str, number: int) -> str:
    found = _SAMPLE.match(sample)
    assert found is not None
    name, labels, rest = found.groups()
    return f'{name}{{worker="{number}"{"," + labels if labels else ""}}} {rest}'

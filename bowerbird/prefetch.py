"""Makes the next items of an iterator in a background thread while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """The last thing in a queue: how the iterator ended."""

    error: BaseException | None = None


def prefetched(items: Iterable[Item], ahead: int) -> Generator[Item, None, None]:
    """Yield ``items`` in order; a thread makes up to ``ahead`` of them before they are asked for.

    At most ``ahead`` items are being made or waiting, beside the one in use. An exception of the iterator is raised
    here, with its traceback. Closing the generator (or leaving a loop over it by an exception, Ctrl-C included, when it
    is held by ``contextlib.closing``) stops the thread after the item that it is making, closes the iterator and
    waits for the thread. With ``ahead`` 0 there is no thread.
    """
    if ahead <= 0:
        yield from items
        return
    worker = _Worker(iter(items), ahead)
    try:
        while True:
            item = worker.take()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
            del item
    finally:
        worker.stop()


class _Worker(Generic[Item]):
    def __init__(self, items: Iterator[Item], ahead: int) -> None:
        self._items = items
        self._ready: queue.SimpleQueue[Item | _End] = queue.SimpleQueue()
        self._free = threading.Semaphore(ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bowerbird-prefetch", daemon=True)
        self._thread.start()

    def take(self) -> Item | _End:
        item = self._ready.get()
        self._free.release()
        return item

    def stop(self) -> None:
        self._stopped.set()
        self._free.release()
        self._thread.join()

    def _run(self) -> None:
        end = _End()
        try:
            while True:
                self._free.acquire()
                if self._stopped.is_set():
                    break
                try:
                    item = next(self._items)
                except StopIteration:
                    break
                self._ready.put(item)
                del item
            if isinstance(self._items, Generator):
                self._items.close()
        except BaseException as error:
            end = _End(error)
        self._ready.put(end)

"""Parity under load on KuaiRand: ``python -m bench.parity [--requests 5000]``

8 connections ask for scores while 4 more send exposures, clicks and plays. Then the log is replayed to each answer's
LSN: every logged feature must be bit-equal, every score as near as its way promises.
"""

from __future__ import annotations

import argparse
import itertools
import random
import threading
import time

from bench.common import Row, write
from bench.serving.served import served_workspace, server
from bowerbird.client import Client
from bowerbird.log.reader import LogReader
from bowerbird.monitoring.parity import check_parity
from bowerbird.serving.logged_slates import logged_slates

ASKERS, SENDERS = 8, 4


class Load:
    """Threads that ask and threads that send; the first error stops everything."""

    def __init__(self, address: str, requests: int, candidates: int, users: list[int], videos: list[int]) -> None:
        self.address, self.candidates, self.users, self.videos = address, candidates, users, videos
        self.left = itertools.count(requests, -1)
        self.stopped = threading.Event()
        self.events = 0
        self.errors: list[Exception] = []

    def ask(self, seed: int) -> None:
        """Ask for scores until the requests are used up."""
        chance = random.Random(seed)
        with Client(self.address) as client:
            while next(self.left) > 0 and not self.stopped.is_set():
                shown = chance.sample(self.videos, self.candidates)
                client.score("feed", chance.choice(self.users), shown, context={"tab": chance.choice([0, 1, 2, 4])})

    def send(self, seed: int) -> None:
        """Send batches of what users saw and did until stopped."""
        chance = random.Random(seed)
        with Client(self.address) as client:
            for turn in itertools.count():
                if self.stopped.is_set():
                    return
                events = [event for each in range(5) for event in self._story(chance, f"{seed}-{turn}-{each}")]
                self.events += client.send_events(events).accepted

    def _story(self, chance: random.Random, name: str) -> list[dict[str, object]]:
        base = {"user": chance.choice(self.users), "video": chance.choice(self.videos), "tab": 1}
        ratio = chance.random()
        played = {"outcome": "click", "log_play": 9.0 * ratio, "play_ratio": ratio}
        story: list[dict[str, object]] = [{"type": "exposure", "id": f"x{name}", **base}]
        if ratio > 0.5:
            story.append({"type": "click", "id": f"c{name}", **base})
        return [*story, {"type": "play", "id": f"p{name}", **base, **played}]

    def guard(self, work: object, seed: int) -> None:
        """Run one thread's work and keep what it raised."""
        try:
            work(seed)  # type: ignore[operator]
        except Exception as error:
            self.errors.append(error)
            self.stopped.set()

    def run(self) -> float:
        """Return the seconds that the requests took."""
        askers = [threading.Thread(target=self.guard, args=(self.ask, seed)) for seed in range(ASKERS)]
        senders = [threading.Thread(target=self.guard, args=(self.send, 100 + seed)) for seed in range(SENDERS)]
        started = time.perf_counter()
        for thread in (*askers, *senders):
            thread.start()
        for thread in askers:
            thread.join()
        seconds = time.perf_counter() - started
        self.stopped.set()
        for thread in senders:
            thread.join()
        if self.errors:
            raise self.errors[0]
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--model", default="din")
    arguments = parser.parse_args()
    workspace = served_workspace(arguments.model, "kuairand-parity")
    exposures = LogReader(workspace).records("exposure")
    users, videos = (exposures.column(name).unique().to_pylist() for name in ("user", "video"))
    with server(workspace) as port:
        load = Load(f"http://127.0.0.1:{port}", arguments.requests, arguments.candidates, users, videos)
        seconds = load.run()
    parity = check_parity(workspace, logged_slates(workspace.slates_folder))
    for example in parity.examples:
        print(example)
    complete = parity.slates == arguments.requests and parity.unknown == 0
    write(
        "parity",
        [
            Row("slates replayed", parity.slates, f"of {arguments.requests}", equal=complete),
            Row("feature values bit-equal", parity.equal_values, f"of {parity.values:,}",
                equal=parity.equal_values == parity.values),
            Row("scores as near as promised", parity.scores_within_tolerance, f"of {parity.scores:,}",
                equal=parity.scores_within_tolerance == parity.scores,
                note=f"{', '.join(each.way for each in parity.ways)}; "
                f"largest difference {parity.largest_score_difference:.2g}"),
            Row("events accepted meanwhile", load.events, "events", note=f"{load.events / seconds:,.0f}/s"),
        ],
        model=arguments.model, candidates=arguments.candidates, seconds=seconds,
    )  # fmt: skip
    if not (complete and parity.holds):
        raise SystemExit("What was served is not what replay gives.")


if __name__ == "__main__":
    main()

"""The live part: a real server, ratings played through it in time order, a better version on the way."""

from __future__ import annotations

import threading
import time

from live_server import LiveServer
from offline import NETWORK
from people import Library, choose_people, meet, time_recommendations
from player import Player, Rating, read_ratings
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from state import DEEP, Demo, lines_with
from steps import CommandError

from bowerbird.client import Client
from bowerbird.serving.clock import FileTime

RETRAIN_SINCE = "1998-03-27"
"""The first day that version 2 learns from."""
RETRAIN_AT = 0.6
"""The share of the live ratings after which version 2 is trained."""
WARM_START = (*NETWORK, "--epochs", "1", "--option", "trainer.learning_rate=0.0005",
              "--option", "trainer.warmup_steps=0", "--option", "trainer.average=0.98")  # fmt: skip


def go_live(demo: Demo) -> int:
    """Serve, play, retrain, swap, recommend; return how many ratings preceded the live ones."""
    live = read_ratings(demo.raw / "live" / "ratings.csv")[: demo.options.live]
    history = read_ratings(demo.raw / "ratings.csv")
    clock = _clock(demo)
    clock.set(live[0].time * 1_000_000)
    key = demo.steps.command("keys", "create", "demo", "--scope", "admin").splitlines()[0]
    with (
        LiveServer(demo.project, demo.options.out / "server.log") as server,
        Client(server.address, key) as client,
    ):
        _play(demo, client, clock, live)
        _look_at_people(demo, client, history + live)
    return len(history)


def _clock(demo: Demo) -> FileTime:
    file = demo.workspace.clock_file
    assert file is not None, "bowerbird.toml of this example names a clock"
    return FileTime(file)


def _play(demo: Demo, client: Client, clock: FileTime, live: list[Rating]) -> None:
    """Play the first part, retrain on it, and swap the versions while the second part is playing."""
    cut = round(RETRAIN_AT * len(live))
    player = Player(client, clock, sorted(Library(demo.raw).movies))
    demo.played = player.played
    _play_part(demo, player, live[:cut], "ask before each rating, then tell: version 1")
    swap = _Swap(client, demo.workspace.project.name, _retrain(demo))
    swap.start()
    _play_part(demo, player, live[cut:], "play on, and swap the versions meanwhile: no request fails")
    swap.join()
    demo.swapped = next((one.rating.time for one in demo.played.predictions if one.version > 1), 0)


def _play_part(demo: Demo, player: Player, ratings: list[Rating], what: str) -> None:
    columns = (TextColumn(f"[bold]play[/]  {what}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = time.perf_counter()
    with Progress(*columns, console=demo.steps.console, transient=True) as bar:
        task = bar.add_task("play", total=len(ratings))
        player.play(ratings, lambda count: bar.advance(task, count))
    seconds = time.perf_counter() - started
    demo.steps.done("play", what, seconds, [f"{len(ratings):,} ratings, {len(ratings) / seconds:,.0f} a second"])


def _retrain(demo: Demo) -> int:
    """Train on the ratings just played and publish; return the new version, or 0 when a gate refused it."""
    steps = demo.steps
    with steps.step("samples", "replay the log again, live ratings included"):
        steps.command("samples", "--name", "updated")
    with steps.step("train", f"go on from version 1 with what came since {RETRAIN_SINCE}") as notes:
        arguments = ("--samples", "updated", "--from-run", demo.runs[DEEP], "--since", RETRAIN_SINCE)
        notes += lines_with(steps.command("train", *arguments, *WARM_START), "AUC")
    with steps.step("publish", "version 2, through its gates: not worse than the live version") as notes:
        try:
            notes += steps.command("publish", "--run", demo.latest_run()).splitlines()
        except CommandError as error:
            demo.refused = error.what
            notes.append("A gate refused it; version 1 stays live.")
            return 0
    return 2


class _Swap(threading.Thread):
    """Makes a version live while requests are answered."""

    def __init__(self, client: Client, model: str, version: int) -> None:
        super().__init__(name="swap")
        self._client, self._model, self._version = client, model, version

    def run(self) -> None:
        """Promote the version, where there is one."""
        if self._version:
            self._client.promote(self._model, self._version)


def _look_at_people(demo: Demo, client: Client, ratings: list[Rating]) -> None:
    with demo.steps.step("recommend", "fresh recommendations for a few users, and 100 to measure") as notes:
        library = Library(demo.raw)
        lately = {one.rating.user for one in demo.played.predictions}
        demo.people = [meet(client, library, user, ratings) for user in choose_people(library, ratings, lately)]
        demo.recommend_seconds = time_recommendations(client, sorted(lately))
        notes += [f"user {one.user} ({one.description}): {one.slate[0].movie.title}, …" for one in demo.people]

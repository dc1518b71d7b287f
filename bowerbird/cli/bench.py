"""``bowerbird bench``: a load test of a running server with the requests that it has answered."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click
import msgspec
from rich.markup import escape

from bowerbird.cli.common import console, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.durable import write_atomically
from bowerbird.errors import InputError


@click.command("bench")
@project_option
@click.option("--address", help="The server (default: the project's settings).")
@click.option("--key", default="", help="An API key.", envvar="BOWERBIRD_KEY")
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="Requests a second, open loop; several are run in turn.",
)
@click.option(
    "--closed", type=click.IntRange(min=1), multiple=True, help="Connections of a closed loop, for comparison."
)
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "recorded"]),
    default="poisson",
    show_default=True,
    help="At random, or with the gaps of the log.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="How long each run is measured.",
)
@click.option(
    "--warm-up", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Seconds before that, not counted."
)
@click.option(
    "--connections",
    type=click.IntRange(1, 10_000),
    default=256,
    show_default=True,
    help="Most connections of an open loop.",
)
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that send.")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="Milliseconds within which an answer is worth something.",
)
@click.option("--tell-deadline", is_flag=True, help="Send the deadline along, so that the server need not answer late.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds after which nobody waits.",
)
@click.option(
    "--requests",
    "file",
    type=click.Path(path_type=Path),
    help="A JSONL file of requests (default: the project's slates).",
)
@click.option("--path", default="", help="Where the file's requests go that do not say it.")
@click.option(
    "--most", type=click.IntRange(min=1), default=10_000, show_default=True, help="How many different requests."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw them there (PNG).")
def bench_command(
    workspace: Workspace,
    address: str | None,
    key: str,
    rates: tuple[float, ...],
    closed: tuple[int, ...],
    arrivals: Literal["poisson", "recorded"],
    seconds: float,
    warm_up: float,
    connections: int,
    processes: int,
    deadline: float,
    tell_deadline: bool,
    timeout: float,
    file: Path | None,
    path: str,
    most: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:  # fmt: skip
    """Load a running server with real requests and print percentiles of its latency.

    Open loop: requests are sent when they are due, whatever became of the earlier ones, and a latency counts from then.
    """
    from bowerbird.loadtest.requests import Target, requests_of_file, requests_of_slates
    from bowerbird.loadtest.run import LoadTest
    from bowerbird.loadtest.table import refusals_of, table_of, warnings_of
    from bowerbird.serving.logged_slates import logged_slates

    if not rates and not closed:
        raise InputError(
            "No load is stated.", "Give --rate 100 (requests a second), --closed 8 (connections), or both."
        )
    settings = workspace.settings.server
    target = Target.of(address or f"http://{settings.host}:{settings.port}", key, deadline if tell_deadline else None)
    if file is not None:
        requests = requests_of_file(file, path, most)
    else:
        requests = requests_of_slates(logged_slates(workspace.slates_folder), most)
    test = LoadTest(
        target, requests, rates, closed, arrivals, seconds, warm_up, connections, deadline / 1e3, timeout, processes
    )
    size = sum(len(each.body) for each in requests) / len(requests)
    console.print(f"{len(requests):,} different requests, {size:,.0f} bytes on average.")
    found = test.run(lambda what: console.print(f"{what}: {warm_up:g} s of warm-up, then {seconds:g} s"))
    console.print(table_of(found, deadline / 1e3))
    for refusal in refusals_of(found):
        console.print(escape(refusal))
    for warning in warnings_of(found):
        console.print(f"[yellow]Beware:[/] {warning}")
    if json_file is not None:
        write_atomically(json_file, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        console.print(f"Figures: {json_file}")
    if plot is not None:
        from bowerbird.loadtest.plot import plot_load

        console.print(f"Picture: {plot_load(plot, found)}")

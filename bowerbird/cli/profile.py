"""``bowerbird profile``."""

from __future__ import annotations

import click
from rich.table import Table

from bowerbird.bundles.profile import Profile, profile
from bowerbird.bundles.way_choice import WayChoice
from bowerbird.cli.common import console, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.kernels.pair import PairProgram
from bowerbird.server.observe.request_profile import profile_requests
from bowerbird.serving.threads import bound_model_threads
from bowerbird.training.trained import load_run_network


@click.command("profile")
@click.argument("model", default="")
@click.option("--run", metavar="RUN", help="A run's model alone, with made-up candidates, instead of a live version.")
@click.option("--candidates", default=500, show_default=True, type=click.IntRange(min=1))
@project_option
def profile_command(workspace: Workspace, model: str, run: str | None, candidates: int) -> None:
    """Measure where a request's microseconds go, from its bytes to the answer's, by a live version.

    Users and items are drawn from the log, and state is read as a server reads it. Shows the ways that this host could
    serve the version by, too.
    """
    if run is not None:
        network = load_run_network(workspace.runs_folder / run)
        console.print(_profile(profile(network.collection, network.model, candidates), candidates, f"Run {run}"))
        return
    bound_model_threads(workspace.settings.server)
    measured = profile_requests(workspace, model, candidates)
    choice = measured.choice
    title = f"{measured.model} {measured.version}, served by {choice.way} ({choice.why})"
    console.print(_profile(measured.parts, candidates, title))
    if choice.timings:
        console.print(_ways(choice))
    for each in choice.refused:
        console.print(f"Not by {each.way}: {each.reason}", markup=False, soft_wrap=True)
    if unused := PairProgram.unused_amx():
        console.print(f"This processor's AMX is not used: {unused}", markup=False, soft_wrap=True)


def _ways(choice: WayChoice) -> Table:
    counts = list(choice.timings[0].microseconds)
    headings = [f"µs per candidate of {count:,}" for count in counts]
    table = Table("way", *headings, title=f"What its ways take on {choice.host.cpu} ({choice.host.native})")
    for each in choice.timings:
        table.add_row(each.way, *(f"{each.microseconds[count]:.2f}" for count in counts))
    return table


def _profile(measured: list[Profile], candidates: int, title: str) -> Table:
    table = Table("part", "µs", "share", "ns per candidate", title=f"{title}: a request with {candidates:,} candidates")
    total = sum(each.seconds for each in measured)
    for each in measured:
        share = each.seconds / total
        table.add_row(
            each.part, f"{1e6 * each.seconds:,.0f}", f"{share:.0%}", f"{1e9 * each.seconds / candidates:,.0f}"
        )
    table.add_row("all", f"{1e6 * total:,.0f}", "100%", f"{1e9 * total / candidates:,.0f}")
    return table

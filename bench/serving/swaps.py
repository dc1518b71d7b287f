"""Swaps of versions under load: 20 promotions, one after another, while requests and 5,000 events a second come.

    python -m bench.serving.swaps [--workspace FOLDER] [--rounds 5] [--swaps 4] [--events 5000]

Serves KuaiRand with DIN, published twice, on a core of its own. An open loop at 40% of capacity, which is what a closed
loop reaches while the events come, is measured quiet and while versions change places, round after round: a machine
that others use stalls now and then, and a single stall would decide one long measurement. No request may fail.
"""

from __future__ import annotations

import argparse
import http.client
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

import msgspec

from bench.common import Row, write
from bench.serving.events import Events
from bench.serving.latency import make_bodies
from bench.serving.served import served_workspace, server_process, stand_apart
from bowerbird.bundles.bundle import read_bundle
from bowerbird.bundles.registry import Registry, VersionStage
from bowerbird.bundles.write import BundleParts, write_bundle
from bowerbird.declare.workspace import Workspace, load_workspace
from bowerbird.loadtest.measured import Measured
from bowerbird.loadtest.requests import Request, Target
from bowerbird.loadtest.run import LoadTest

MODEL = "kuairand"
SHARE = 0.4


def publish_again(workspace: Workspace) -> None:
    """Record the live version a second time under the next number, the same files."""
    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    live = registry.live(MODEL)
    assert live is not None
    if any(each.stage is VersionStage.CANDIDATE for each in registry.versions(MODEL)):
        return
    bundle = read_bundle(workspace.bundles_folder / live.path)
    files = {name: (bundle.folder / name).read_bytes() for name in bundle.manifest.files}
    parts = BundleParts(bundle.plan, bundle.calibrations, bundle.metrics, bundle.golden)
    number = registry.next_version(MODEL)
    path = f"{MODEL}/{number}"
    manifest = msgspec.structs.replace(bundle.manifest, version=number)
    copy = write_bundle(workspace.bundles_folder / path, manifest, parts, files)
    candidate = VersionStage.CANDIDATE
    registry.add(
        msgspec.structs.replace(live, version=number, path=path, digest=copy.digest, stage=candidate, promoted=None)
    )


def swap(port: int, numbers: list[int], count: int) -> list[float]:
    """Promote the two versions in turns and return the seconds that each promotion took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    seconds = []
    for turn in range(count):
        started = time.perf_counter()
        connection.request("POST", f"/v1/models/{MODEL}/versions/{numbers[turn % len(numbers)]}/promote", b"{}")
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        seconds.append(time.perf_counter() - started)
        time.sleep(0.3)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--swaps", type=int, default=4, help="In a round.")
    parser.add_argument("--events", type=float, default=5_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    workspace = load_workspace(arguments.workspace) if arguments.workspace else served_workspace("din")
    publish_again(workspace)
    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    numbers = [each.version for each in registry.versions(MODEL)][::-1]
    bodies = make_bodies(workspace, 200)
    requests = [Request("/v1/scenes/feed/score", body) for body in bodies]
    quiet: list[Measured] = []
    swapped: list[Measured] = []
    promotions: list[float] = []
    with server_process(workspace, cores=stand_apart()) as (port, _):
        target = Target.of(f"http://127.0.0.1:{port}", deadline_ms=5_000)

        def run(seconds: float, **more: object) -> Measured:
            test = LoadTest(target, requests, seconds=seconds, warm_up=1.0, deadline=5.0, **more)  # type: ignore[arg-type]
            return test.run()[0]

        events = Events(port, arguments.events, bodies)
        events.start()
        rate = SHARE * run(4.0, closed=(4,)).answered
        for _ in range(arguments.rounds):
            quiet.append(run(arguments.seconds, rates=(rate,)))
            swapping = threading.Thread(target=lambda: promotions.extend(swap(port, numbers, arguments.swaps)))
            swapping.start()
            swapped.append(run(arguments.seconds, rates=(rate,)))
            swapping.join()
        events.stop()
    write("serving_swaps", [*rows_of(quiet, swapped, promotions), events.row()])


def rows_of(quiet: list[Measured], swapped: list[Measured], promotions: list[float]) -> list[Row]:
    """Return the medians of rounds, quiet and with swaps, each round's own beside them."""
    rows = []
    for figure in ("p50", "p99"):
        before, during = ([getattr(each, figure) for each in runs] for runs in (quiet, swapped))
        ratios = ", ".join(f"{high / low:.2f}" for high, low in zip(during, before, strict=True))
        rows.append(
            Row(
                f"during swaps (peer: quiet): {figure}", median(during), "ms", median(before),
                median(during) / median(before), note=f"rounds {ratios}",
            )
        )  # fmt: skip
    errors: Counter[str] = Counter()
    for each in swapped:
        errors.update(each.errors)
    note = f"{sum(each.requests for each in swapped):,} asked; {dict(errors)}"
    rows.append(Row("during swaps: failed", float(errors.total()), "requests", note=note))
    rows.append(Row("a promotion", median(promotions), "s", note=f"{len(promotions)} of them"))
    return rows


if __name__ == "__main__":
    main()

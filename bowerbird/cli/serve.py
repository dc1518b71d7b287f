"""``serve``, ``up`` and ``keys``: the server and who may ask it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from bowerbird.cli.common import project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.errors import UnavailableError
from bowerbird.server.web.access import SCOPES, KeyStore

_START_SECONDS = 300.0


@click.command()
@project_option
@click.option("--host", help="Where to listen (default: the setting, 127.0.0.1).")
@click.option("--port", type=int, help="Which port (default: the setting; 0: a free one).")
@click.option("--workers", type=click.IntRange(1), help="How many processes (default: the setting, 1).")
@click.option("--grpc-port", type=int, help="Serve the Open Inference Protocol over gRPC there (0: a free one).")
def serve(
    workspace: Workspace, host: str | None, port: int | None, workers: int | None, grpc_port: int | None
) -> None:
    """Answer requests until stopped (Ctrl-C or SIGTERM): scores, recommendations, events."""
    from bowerbird.server.run import run_server

    settings = workspace.settings.server

    def announce(address: str, summary: list[str]) -> None:
        for line in summary:
            click.echo(line)
        click.secho(f"Ready at {address} (API: {address}/docs)", fg="green")
        sys.stdout.flush()

    run_server(
        workspace,
        settings.host if host is None else host,
        settings.port if port is None else port,
        announce,
        settings.workers if workers is None else workers,
        settings.grpc_port if grpc_port is None else grpc_port,
    )
    click.echo("Stopped.")


@click.command()
@project_option
@click.option("--stop", is_flag=True, help="Stop the server that `up` started.")
def up(workspace: Workspace, stop: bool) -> None:
    """Keep a server running in the background; log and process id are in the project's data folder."""
    running = _running(workspace)
    if stop:
        _stop(workspace, running)
        return
    settings = workspace.settings.server
    address = f"http://{settings.host}:{settings.port}"
    if running is not None:
        click.echo(f"The server runs already at {address} (process {running}).")
        return
    process = _spawn(workspace)
    _wait_ready(workspace, process, address)
    process.returncode = 0  # it lives on by itself: nobody waits for its end
    click.secho(f"The server runs at {address} (process {process.pid}).", fg="green")
    click.echo(f"Its log: {_log_file(workspace)}. Stop it with `bowerbird up --stop`.")


def _pid_file(workspace: Workspace) -> Path:
    return workspace.data_folder / "server.pid"


def _log_file(workspace: Workspace) -> Path:
    return workspace.data_folder / "server.log"


def _running(workspace: Workspace) -> int | None:
    """Return the process id of the server that `up` started, where it still runs."""
    try:
        pid = int(_pid_file(workspace).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc").is_dir() else b"bowerbird"
    except (OSError, ValueError):
        return None
    return pid if b"bowerbird" in command else None


def _spawn(workspace: Workspace) -> subprocess.Popen[bytes]:
    workspace.data_folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "bowerbird.cli.main", "serve", "--project", str(workspace.folder)]
    with _log_file(workspace).open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    _pid_file(workspace).write_text(str(process.pid))
    return process


def _wait_ready(workspace: Workspace, process: subprocess.Popen[bytes], address: str) -> None:
    from bowerbird.client import Client

    deadline = time.monotonic() + _START_SECONDS
    with Client(address) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                _pid_file(workspace).unlink(missing_ok=True)
                tail = _log_file(workspace).read_text(errors="replace").splitlines()[-5:]
                raise UnavailableError("The server did not start: " + " ".join(tail), "Correct it and try again.")
            if client.ready():
                return
            time.sleep(0.1)
    raise UnavailableError(f"The server is not ready after {_START_SECONDS:.0f} s.", f"See {_log_file(workspace)}.")


def _stop(workspace: Workspace, running: int | None) -> None:
    if running is None:
        click.echo("No server that `up` started is running.")
        return
    os.kill(running, signal.SIGTERM)
    while _running(workspace) == running:
        time.sleep(0.1)
    _pid_file(workspace).unlink(missing_ok=True)
    click.echo(f"Stopped process {running}.")


@click.group()
def keys() -> None:
    """API keys: who may read, write and administer."""


@keys.command("create")
@project_option
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    default=["read", "write"],
    show_default=True,
)
def create_key(workspace: Workspace, name: str, scopes: tuple[str, ...]) -> None:
    """Make a key; it is shown once and kept as a hash."""
    key = KeyStore(workspace.keys_file).create(name, list(scopes))  # type: ignore[arg-type]
    click.echo(key)
    click.echo(f"Keep it: it is not shown again. It allows {', '.join(scopes)}.", err=True)


@keys.command("list")
@project_option
def list_keys(workspace: Workspace) -> None:
    """List the keys' names, scopes and ages."""
    records = KeyStore(workspace.keys_file).records()
    if not records:
        click.echo("No key exists: the server listens on this machine only, and takes all requests.")
    for record in records:
        made = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
        click.echo(f"{record.name:24} {','.join(record.scopes):20} {made}")


@keys.command("revoke")
@project_option
@click.argument("name")
def revoke_key(workspace: Workspace, name: str) -> None:
    """Delete a key; a running server refuses it within a second."""
    KeyStore(workspace.keys_file).revoke(name)
    click.echo(f"Revoked {name}.")

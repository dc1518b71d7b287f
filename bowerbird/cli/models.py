"""``bowerbird models``: versions, and which one is live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.table import Table

from bowerbird.bundles.bundle import read_bundle, verify_golden
from bowerbird.bundles.deltas import DeltaLog, publish_delta, tables_at
from bowerbird.bundles.live_tables import tables_of
from bowerbird.bundles.registry import Registry, VersionRecord
from bowerbird.bundles.way_choice import ChoiceStore
from bowerbird.cli.common import console, project_option
from bowerbird.declare.workspace import Workspace
from bowerbird.embedding.served_table import TableChange
from bowerbird.errors import InputError
from bowerbird.training.publishing.delta import run_changes


@click.group("models")
def models() -> None:
    """Published versions: list, show, promote, retire, roll back."""


@models.command("list")
@click.argument("name", required=False)
@project_option
def list_versions(workspace: Workspace, name: str | None) -> None:
    """List all versions, or one model's."""
    with _registry(workspace) as registry:
        records = registry.versions(name)
    table = Table("model", "version", "stage", "AUC", "trained on", "created", "served by")
    choices = ChoiceStore(workspace.ways_folder)
    for record in records:
        table.add_row(
            record.name,
            str(record.version),
            record.stage,
            _auc(record),
            record.lineage.samples,
            record.created,
            ", ".join(sorted({choice.way for choice in choices.of(record.digest)})),
        )
    console.print(table if records else "No version is published yet: bowerbird publish")


@models.command("show")
@click.argument("name")
@click.argument("version", type=int)
@project_option
def show(workspace: Workspace, name: str, version: int) -> None:
    """Show a version's lineage, gates, metrics and ways, and how hosts chose among them, after checking its files."""
    with _registry(workspace) as registry:
        record = registry.version(name, version)
        bundle = read_bundle(registry.folder_of(name, version))
    document = {
        "version": record,
        "gates": bundle.manifest.gates,
        "forced": bundle.manifest.forced,
        "ways": bundle.manifest.ways,
        "served": ChoiceStore(workspace.ways_folder).of(record.digest),
    }
    console.print_json(msgspec.json.encode(document).decode())


@models.command("promote")
@click.argument("name")
@click.argument("version", type=int)
@project_option
def promote(workspace: Workspace, name: str, version: int) -> None:
    """Make a version live; the former one is retired. Its files are checked first."""
    with _registry(workspace) as registry:
        read_bundle(registry.folder_of(name, version))
        registry.promote(name, version)
    console.print(f"{name} {version} is live")


@models.command("retire")
@click.argument("name")
@click.argument("version", type=int)
@project_option
def retire(workspace: Workspace, name: str, version: int) -> None:
    """Take a version out of use."""
    with _registry(workspace) as registry:
        registry.retire(name, version)
    console.print(f"{name} {version} is retired")


@models.command("rollback")
@click.argument("name")
@project_option
def rollback(workspace: Workspace, name: str) -> None:
    """Make the version live that was live before."""
    with _registry(workspace) as registry:
        record = registry.rollback(name)
    console.print(f"{name} {record.version} is live again")


@models.command("verify")
@click.argument("name")
@click.argument("version", type=int)
@project_option
def verify(workspace: Workspace, name: str, version: int) -> None:
    """Compare every byte of a version with what was published, its deltas too, and ask its golden requests."""
    with _registry(workspace) as registry:
        bundle = read_bundle(registry.folder_of(name, version))
    tables = tables_of(verify_golden(bundle).model)
    numbers = DeltaLog(bundle.folder, bundle.digest).sequences()
    if tables is not None and numbers:
        tables_at(bundle, tables, numbers[-1])
    console.print(f"{name} {version} is whole: {len(bundle.manifest.files)} files, {len(numbers)} deltas")


@models.command("delta")
@click.argument("name")
@click.argument("version", type=int)
@click.option("--run", "run_id", help="A run whose tables, as far as they differ, the version is to have.")
@click.option("--table", "files", multiple=True, metavar="VOCABULARY=FILE", help="What a table's delta() wrote.")
@project_option
def delta(workspace: Workspace, name: str, version: int, run_id: str | None, files: tuple[str, ...]) -> None:
    """Publish changed embedding rows as the next delta of a version; servers apply it within a second."""
    if bool(run_id) == bool(files):
        raise InputError("Changed rows come from --run or from --table.", "Give one of them.")
    with _registry(workspace) as registry:
        bundle = read_bundle(registry.folder_of(name, version), verify_tables=False)
    if run_id:
        changes = run_changes(bundle, workspace.runs_folder / run_id)
    else:
        changes = {vocabulary: TableChange.of_delta(Path(path)) for vocabulary, path in map(_named_file, files)}
    if not changes:
        console.print("Nothing differs: no delta is published")
        return
    published = publish_delta(bundle, changes)
    counts = ", ".join(f"{each}: {len(change):,} keys" for each, change in changes.items())
    console.print(f"{name} {version} has delta {published.sequence} ({counts})")


def _named_file(text: str) -> tuple[str, str]:
    vocabulary, separator, path = text.partition("=")
    if not separator:
        raise InputError(f"--table {text!r} names no file.", "Write VOCABULARY=FILE.")
    return vocabulary, path


def _auc(record: VersionRecord) -> str:
    return "  ".join(
        f"{task} {values['auc']:.4f}" for task, values in record.metrics.items() if values.get("auc") is not None
    )


@contextmanager
def _registry(workspace: Workspace) -> Iterator[Registry]:
    registry = Registry(workspace.registry_url, workspace.bundles_folder)
    try:
        yield registry
    finally:
        registry.close()

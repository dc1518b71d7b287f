"""What a run's tables have that a published version's have not."""

from __future__ import annotations

from pathlib import Path

from bowerbird.bundles.bundle import Bundle
from bowerbird.bundles.deltas import DeltaLog, changes_between, tables_at
from bowerbird.embedding.served_collection import ServedCollection
from bowerbird.embedding.served_table import TableChange
from bowerbird.errors import InputError
from bowerbird.training.trained import load_run_network


def run_changes(bundle: Bundle, run: Path) -> dict[str, TableChange]:
    """Return the changes by vocabulary from a version, with the deltas that it has, to a finished run's tables.

    The dense part stays the version's: a run that went on from the version's own is meant. Raises InputError for a run
    of another plan, of trees, or of tables of other widths.
    """
    network = load_run_network(run)
    served = bundle.load_collection()
    if not isinstance(served, ServedCollection):
        raise InputError(f"{bundle.folder} has its tables in a form that takes no deltas.", "Publish it again.")
    if network.collection.plan.fingerprint != bundle.plan.fingerprint:
        raise InputError(f"{run} was trained by another plan than {bundle.folder}.", "Publish it as a version.")
    for name, table in served.tables.items():
        if network.collection.dimension_of(name) != table.dimension:
            raise InputError(f"The rows of {name!r} have another width in {run}.", "Publish it as a version.")
    last = max(DeltaLog(bundle.folder, bundle.digest).sequences(), default=0)
    return changes_between(tables_at(bundle, served, last), network.collection.export_arrays())

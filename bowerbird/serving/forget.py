"""Erasing one user from everything that a project's data folder holds."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.workspace import Workspace
from bowerbird.durable import storage_errors
from bowerbird.errors import InputError
from bowerbird.log.dead_letters import DeadLetter, remove_dead_letters
from bowerbird.log.erasure.imported import forget_imported
from bowerbird.log.erasure.live import forget_live
from bowerbird.log.erasure.personal import Id, raw_columns
from bowerbird.log.erasure.record import Erasures
from bowerbird.log.imported.store import LogStore
from bowerbird.log.live.write_ahead import open_wal
from bowerbird.plan.encode import encode_value
from bowerbird.samples.forget import forget_samples
from bowerbird.serving.slates import remove_slates

STATE_FOLDER = "state"
LETTERS, SLATES, SAMPLES, SNAPSHOTS = "dead letters", "slates", "sample rows", "state snapshots"


@dataclass(frozen=True)
class ForgetReport:
    """How many records of each type, mentions, dead letters, slates, sample rows and snapshots were removed."""

    removed: dict[str, int]

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        lines = [f"  {count:>10,}  {name}" for name, count in sorted(self.removed.items()) if count]
        return [
            *(lines or ["Nothing of this user was there."]),
            "Not touched: your raw files, backups, and what trained models and recall indexes have learned.",
            "Train anew (`bowerbird samples`, `train`, `publish`, `recall`) to be rid of that too.",
        ]


def forget(workspace: Workspace, identifier: str, now: int) -> ForgetReport:
    """Erase a user's records up to ``now`` (microseconds), and return what went; ids are given as text.

    Runs while no server and no ingest does (UnavailableError otherwise). Every step can be done twice: after an
    interruption, run it again. The places of the records stay in the log, so that no LSN changes. Raises InputError
    for what is no id, StorageError, CorruptionError.
    """
    user = _typed(identifier, workspace.project.user.id)
    removed: Counter[str] = Counter()
    with LogStore(workspace.log_folder) as store, open_wal(workspace) as log:
        erasures = Erasures(workspace.data_folder)
        erasure = erasures.begin(user, now)
        removed[SNAPSHOTS] = _drop_snapshots(workspace)
        removed.update(forget_imported(store, workspace.project, user, erasure.salt))
        removed.update(forget_live(log, workspace.project, user))
        removed[LETTERS] = remove_dead_letters(workspace.dead_letter_folder, _names(workspace, identifier))
        removed[SLATES] = remove_slates(workspace.slates_folder, lambda slate: str(slate.user) == identifier)
        removed[SAMPLES] = forget_samples(workspace.samples_folder, encode_value(user, workspace.project.user.id.value))
        erasures.finish(erasure, removed)
    return ForgetReport(dict(removed))


def _typed(identifier: str, kind: ColumnType) -> Id:
    if kind is not ColumnType.INTEGER:
        return identifier
    if not re.fullmatch(r"-?[0-9]{1,19}", identifier):
        raise InputError(f"{identifier!r} is no user's id: they are integers.", "Give the id as the log has it.")
    return int(identifier)


def _drop_snapshots(workspace: Workspace) -> int:
    """Delete the state that is kept between starts: the next start makes it anew from the log."""
    folder = workspace.data_folder / STATE_FOLDER
    if not folder.is_dir():
        return 0
    with storage_errors(folder):
        count = sum(1 for path in folder.rglob("*") if path.is_file())
        shutil.rmtree(folder)
    return count


def _names(workspace: Workspace, identifier: str) -> Callable[[DeadLetter], bool]:
    columns = raw_columns(workspace.project)
    word = re.compile(rf"(?<![\w.-]){re.escape(identifier)}(?![\w.-])")

    def names(letter: DeadLetter) -> bool:
        row: dict[str, Any] = letter.row or {}
        return any(str(row.get(name)) == identifier for name in columns) or bool(word.search(letter.text))

    return names

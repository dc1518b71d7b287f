"""The native state of a plan's aggregates and attributes: one writer, snapshots, readers in other processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from bowerbird import _native
from bowerbird.errors import CorruptionError, StorageError
from bowerbird.plan.batch import RecordBatch
from bowerbird.plan.spec import Plan


@dataclass(frozen=True)
class Usage:
    """How much state an engine holds: keys and bytes by family, bytes by table, and in all.

    ``refused`` events and ``expired`` keys are what the memory budget cost; ``retired_blocks`` wait for readers.
    """

    family_keys: dict[str, int]
    family_bytes: dict[str, int]
    table_bytes: dict[str, int]
    memory: int = 0
    refused: int = 0
    expired: int = 0
    retired_blocks: int = 0


@dataclass(frozen=True, kw_only=True)
class StateOptions:
    """How a state is kept.

    ``threads`` share an ``apply`` or ``replay`` (the answers are the same bits for any number). ``budget`` is in bytes,
    0 for none; ``full`` says what becomes of an event that would need more: ``fail``, ``refuse`` it, or ``expire`` the
    keys that are longest without one. ``path`` names a new file (on a memory file system) through which other
    processes read; ``versioned`` lets readers look on while the writer writes (always with ``path``). ``part`` of
    ``parts`` keeps the keys of one partition.
    """

    threads: int = 1
    budget: int = 0
    full: Literal["fail", "refuse", "expire"] = "fail"
    path: str = ""
    versioned: bool = False
    part: int = 0
    parts: int = 1


class FeatureState:
    """What the log amounts to up to a position; one thread applies, ``PlanReader`` reads."""

    def __init__(self, plan: Plan, options: StateOptions | None = None) -> None:
        self.plan = plan
        self.options = options or StateOptions()
        kept = self.options
        try:
            self.native = _native.State(
                msgspec.to_builtins(plan),
                plan_json=plan.to_json().decode(),
                budget=kept.budget,
                path=kept.path,
                threads=kept.threads,
                versioned=kept.versioned or bool(kept.path),
                full=kept.full,
                part=kept.part,
                parts=kept.parts,
            )
        except (OSError, MemoryError, RuntimeError) as error:
            raise StorageError(
                f"No memory for feature state: {error}.", "Give a larger budget or a free path."
            ) from error

    @classmethod
    def attach(cls, path: Path) -> FeatureState:
        """Return a reader's view of a state that another process keeps in a file; raises CorruptionError."""
        state = cls.__new__(cls)
        try:
            state.plan = Plan.from_json(_native.State.plan_json(str(path)).encode())
            state.native = _native.State.attach(msgspec.to_builtins(state.plan), str(path))
        except (OSError, RuntimeError, ValueError, msgspec.MsgspecError) as error:
            raise CorruptionError(
                f"{path} is no feature state: {error}.", "Wait for the writer, or restart it."
            ) from error
        state.options = StateOptions(path=str(path), versioned=True)
        return state

    @property
    def lsn(self) -> int:
        """How many records have been applied and can be seen."""
        return int(self.native.lsn)

    @property
    def restored_to(self) -> int:
        """The position that the log must be applied to, after a restore, before the state may be read."""
        return int(self.native.restored_to)

    @property
    def closed(self) -> bool:
        """Whether the writer has let go of the shared file: what it holds stays as it is."""
        return bool(self.native.closed)

    def apply(self, records: RecordBatch) -> None:
        """Apply records in LSN order; raises StorageError where the budget does not suffice and says ``fail``."""
        vectors = [(slot, rows, values) for slot, (rows, values) in records.vectors.items()]
        try:
            self.native.apply(records.types, records.times, records.slots, vectors)
        except RuntimeError as error:
            raise StorageError(f"{error}.", "Give feature state a larger budget, or let it expire keys.") from error

    def expire(self, time: int) -> int:
        """Let go of keys whose state is empty at ``time`` (microseconds) and ever after; return how many."""
        return int(self.native.expire(time))

    def set_budget(self, memory: int) -> None:
        """Limit the state to so many bytes from now on (0: to what was reserved for it); what is held stays."""
        self.native.set_budget(memory)

    def usage(self) -> Usage:
        """Return the state's size."""
        sizes: dict[str, Any] = self.native.usage()
        families = [family.name for family in self.plan.families]
        tables = [(record.name, record.kind == "table") for record in self.plan.types]
        return Usage(
            dict(zip(families, sizes["family_keys"], strict=True)),
            dict(zip(families, sizes["family_bytes"], strict=True)),
            {name: size for (name, is_table), size in zip(tables, sizes["table_bytes"], strict=True) if is_table},
            sizes["arena_bytes"],
            sizes["refused"],
            sizes["expired"],
            sizes["retired_blocks"],
        )

    def aggregate_bytes(self) -> dict[str, int]:
        """Return the bytes of each aggregate's state by fingerprint; looks at every key."""
        sizes = self.native.aggregate_bytes()
        return {each.fingerprint: size for each, size in zip(self.plan.aggregates, sizes, strict=True)}

    def snapshot(self, path: Path) -> None:
        """Write every key's state to a file and sync it, while the writer goes on; raises StorageError."""
        try:
            self.native.snapshot(str(path))
        except (OSError, RuntimeError) as error:
            raise StorageError(
                f"The snapshot was not written: {error}.", "Free some space; the log has everything."
            ) from error

    def restore(self, path: Path) -> None:
        """Fill this empty state from a snapshot of the same plan; apply the log from ``lsn`` to ``restored_to`` next.

        Raises CorruptionError for a damaged file or another plan's; the state is of no use then.
        """
        try:
            self.native.restore(str(path))
        except ValueError as error:
            raise CorruptionError(f"{error}.", "Delete the snapshot: the state is made anew from the log.") from error
        except (OSError, RuntimeError) as error:
            raise StorageError(
                f"The snapshot was not read: {error}.", "Look at the disk, or give a larger budget."
            ) from error

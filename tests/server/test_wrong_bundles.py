"""Bundles whose hashes are right and whose content is not: each is refused by name before it could answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bowerbird.bundles.arrays import pack_arrays, read_arrays
from bowerbird.bundles.bundle import STAGED_CONSTANTS, Bundle, read_bundle, verify_golden
from bowerbird.bundles.write import BundleParts, write_bundle
from bowerbird.declare.workspace import Workspace
from bowerbird.embedding.served_table import ServedTable, write_served_table
from bowerbird.errors import BowerbirdError, CorruptionError, InputError
from bowerbird.plan.compiler import compile_plan
from bowerbird.plan.spec import Plan

TABLE = "tables/1.table"
Numbers = npt.NDArray[np.generic]


def nan(values: Numbers) -> Numbers:
    return np.full_like(values, np.nan) if values.dtype == np.float32 else values


def narrow(values: Numbers) -> Numbers:
    return values[..., :-1] if values.dtype == np.float32 and values.ndim == 2 and values.shape[-1] > 1 else values


def write_changed_table(file: Path, target: Path, change: Callable[[Numbers], Numbers]) -> None:
    table = ServedTable.open(file)
    keys, rows = table.file_keys()
    write_served_table(target, keys, change(table.take(np.concatenate([np.arange(2), rows]))))


def changed(bundle: Bundle, target: Path, name: str, change: Callable[[Numbers], Numbers], plan: Plan) -> Bundle:
    """Write a bundle's copy with one file of arrays changed, and another plan."""
    files = {each: (bundle.folder / each).read_bytes() for each in bundle.manifest.files if not each.endswith(".json")}
    if name == STAGED_CONSTANTS:
        arrays = read_arrays(bundle.folder / name)
        files[name] = pack_arrays({key: change(np.array(values)) for key, values in arrays.items()})
    else:
        write_changed_table(bundle.folder / name, target.parent / "changed.table", change)
        files[name] = (target.parent / "changed.table").read_bytes()
    return write_bundle(
        target, bundle.manifest, BundleParts(plan, bundle.calibrations, bundle.metrics, bundle.golden), files
    )


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (STAGED_CONSTANTS, nan, "a score is inf off"),
        (TABLE, nan, "a score is inf off"),
        (STAGED_CONSTANTS, narrow, "staged program cannot be read"),
        (TABLE, narrow, "has rows of .* numbers, not"),
    ],
)
def test_numbers_and_shapes_that_are_wrong_are_refused(
    template: Workspace, tmp_path: Path, name: str, change: Callable[[Numbers], Numbers], words: str
) -> None:
    bundle = read_bundle(template.bundles_folder / "din" / "2")
    with pytest.raises(CorruptionError, match=words):
        verify_golden(changed(bundle, tmp_path / "bundle", name, change, bundle.plan))


@pytest.mark.parametrize("absent", ["genre", "history"])
def test_a_bundle_for_another_plan_is_refused(template: Workspace, tmp_path: Path, absent: str) -> None:
    bundle = read_bundle(template.bundles_folder / "din" / "2")
    features = {
        name: feature
        for name, feature in template.project.features.items()
        if name not in (absent, f"{absent}_matches")
    }
    plan = compile_plan(dataclasses.replace(template.project, features=features))
    with pytest.raises(BowerbirdError) as refused:
        verify_golden(changed(bundle, tmp_path / "bundle", TABLE, lambda values: values, plan))
    assert isinstance(refused.value, InputError | CorruptionError)
    assert absent in str(refused.value)

"""A plan of ready-made columns beside a live log: the server's state takes it, and requests give the values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bowerbird.declare.columns import ColumnType
from bowerbird.errors import InputError
from bowerbird.kernels.keys import key_integer, key_text
from bowerbird.samples.columns import read_declaration
from bowerbird.samples.columns_build import build_from_columns
from bowerbird.samples.columns_plan import ReadyNames
from bowerbird.samples.manifest import read_plan
from bowerbird.serving.given import GivenFeatures
from tests.samples.ready_table import rows, write_table
from tests.serving.state_log import NOW, Following, events, make_workspace


def test_the_live_state_reads_it_and_the_log_changes_nothing(tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.mkdir()
    file = write_table(table, rows(40))
    build_from_columns(tmp_path / "samples", "ready", read_declaration(file), table, names=ReadyNames("small"))
    plan = read_plan(tmp_path / "samples" / "ready")
    following = Following(make_workspace(tmp_path / "workspace"), plan)
    try:
        following.send(events(0, 60))
        keys = following.view.encoder.encode_items([3, 4])
        block = following.view.read(NOW, "u7", {}, keys)
    finally:
        following.stop()
    assert block.categories["user_id"].tolist() == [key_text("u7")]
    assert block.categories["item_id"].tolist() == [key_integer(3), key_integer(4)]
    assert np.isnan(block.numbers["price"]).all() and np.isnan(block.vectors["cover"]).all()
    assert len(block.sequences["history"].age) == 0
    events_given = [{"item": number, "dwell": 1.5, "age": 60} for number in range(5)]
    given = GivenFeatures(plan).apply(block, {"history": events_given, "member": True}, {1: {"price": 2.5}}, 2)
    history = given.sequences["history"]
    assert history.offsets.tolist() == [0, 3] and history.age.tolist() == [60.0] * 3
    assert history.fields["item"].tolist() == [key_integer(number) for number in (2, 3, 4)]
    assert given.categories["member"].tolist() == [key_integer(1)]
    np.testing.assert_array_equal(given.numbers["price"], np.array([np.nan, 2.5], np.float32))
    assert len(block.sequences["history"].age) == 0


def test_ids_of_another_type_than_the_projects_are_refused(tmp_path: Path) -> None:
    file = write_table(tmp_path, rows(10))
    names = ReadyNames("shop", "shown", {"user": ColumnType.TEXT.value, "item": ColumnType.TEXT.value})
    columns = read_declaration(file)
    with pytest.raises(InputError, match="'item_id' holds integer, but the project's item is text"):
        build_from_columns(tmp_path / "samples", "ready", columns, tmp_path, names=names)
    build_from_columns(
        tmp_path / "samples", "ready", columns, tmp_path, names=replace(names, entity_types={"item": "integer"})
    )

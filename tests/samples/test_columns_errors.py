"""Ready-made columns that cannot be: each error names the file, the row and the value, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bowerbird.errors import BowerbirdError, CorruptionError, InputError, NotFoundError
from bowerbird.samples.columns import read_declaration
from bowerbird.samples.columns_build import build_from_columns
from tests.samples.ready_table import DECLARATION, SCHEMA, rows, write_table

Change = Callable[[list[dict[str, Any]]], None]


def put(column: str, value: Any) -> Change:
    """Return a change of row 37, which stands in the second file at row 7."""

    def change(made: list[dict[str, Any]]) -> None:
        made[37][column] = value

    return change


def build(folder: Path, change: Change, declaration: str = DECLARATION) -> None:
    made = rows(60)
    change(made)
    file = write_table(folder, made, declaration)
    build_from_columns(folder / "samples", "ready", read_declaration(file), folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("clicked", 2), r"rows-1.parquet, row 7: 'clicked' is 2; label 'click' is 0 or 1"),
        (put("clicked", None), r"rows-1.parquet, row 7: 'clicked' is None; label 'click' is not known"),
        (put("price", float("inf")), r"row 7: 'price' is inf; a number is finite"),
        (put("price", 1e39), r"row 7: 'price' is 1e\+39; a number is finite"),
        (put("importance", -1), r"row 7: 'importance' is -1; a weight"),
        (put("importance", None), r"row 7: 'importance' is None; a weight"),
        (put("cover", [1.0, 2.0]), r"rows-1.parquet, column 'cover': A vector has 2, 3 components"),
        (put("day", None), r"row 7: 'day' is None; what splits the rows is known"),
        (put("day", "May 1"), r"rows-1.parquet, rows 0 on, column 'day'"),
        (put("dwells", [1.0]), r"row 7: 'seen' is .*; its list is not as long as that of 'dwell'"),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path: Path, change: Change, message: str) -> None:
    def changed(made: list[dict[str, Any]]) -> None:
        made[37] |= {"seen": [1, 2, 3], "dwells": [1.0] * 3, "seconds_ago": [1.0] * 3}
        change(made)

    with pytest.raises(InputError, match=message):
        build(tmp_path, changed)
    assert not list((tmp_path / "samples").iterdir())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('date = "day"', 'date = "days"', r"rows-0.parquet has no column 'days'.*\n?.*clicked"),
        ('date = "day"', "", "exactly one of time, date, split and parts"),
        ('date = "day"', 'date = "day"\nsplit = "day"', "exactly one of time, date, split and parts"),
        ('user = "user_id"', 'customer = "user_id"', "customer"),
        ("width = 3", "", "Vector 'cover' has no width"),
        ('kind = "number"\n[', 'kind = "category"\n[', "Column 'price' is double, which is not a category's type"),
        ('[features.user_id]\nkind = "category"', '[features.user_id]\nkind = "number"', "'user_id' is string, not a"),
        ('given = "click"', 'given = "view"', "given 'view', which no label before it is"),
        ("length = 3", "", "needs fields and a length"),
        ('kind = "number", column = "dwells"', 'kind = "number", column = "price"', "'price' is double, not a list"),
        ('column = "seen", vocabulary = "item"', 'column = "seen", type = "text", vocabulary = "item"',
         "Vocabulary 'item' holds integer in column 'item_id' and text in 'seen'"),
        ('kind = "number"\n[', 'kind = "numbers"\n[', "features"),
        ("[features.member]", "[features.'mem ber']", "'mem ber' is not a feature's name"),
        ("fields.dwell", "fields.age", "'age' is not a field's name"),
    ],
)  # fmt: skip
def test_declarations_that_cannot_be_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in DECLARATION
    with pytest.raises(InputError, match=message):
        build(tmp_path, lambda made: None, DECLARATION.replace(old, new, 1))


def test_files_that_are_not_there_or_no_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No file matches 'none-"):
        build(tmp_path, lambda made: None, DECLARATION.replace("rows-", "none-"))
    with pytest.raises(NotFoundError, match=r"There is no .*absent.toml"):
        read_declaration(tmp_path / "absent.toml")
    (tmp_path / "rows-2.parquet").write_bytes(b"no Parquet")
    with pytest.raises(CorruptionError, match=r"rows-2.parquet cannot be read"):
        build(tmp_path, lambda made: None)
    (tmp_path / "rows-2.parquet").unlink()
    (tmp_path / "rows.txt").write_text("a,b")
    with pytest.raises(InputError, match=r"neither .parquet nor .csv"):
        build(tmp_path, lambda made: None, DECLARATION.replace("rows-*.parquet", "rows.txt"))


def test_files_of_other_types_are_refused(tmp_path: Path) -> None:
    """An id that is a number in one file and a text in another would get two keys."""
    made = rows(60)
    file = write_table(tmp_path, made)
    texts = [{**row, "item_id": str(row["item_id"])} for row in made]
    schema = SCHEMA.set(SCHEMA.get_field_index("item_id"), pa.field("item_id", pa.string()))
    schema = schema.set(schema.get_field_index("seen"), pa.field("seen", pa.list_(pa.string())))
    for row in texts:
        row["seen"] = None if row["seen"] is None else [str(each) for each in row["seen"]]
    pq.write_table(pa.Table.from_pylist(texts, schema=schema), tmp_path / "rows-2.parquet")
    with pytest.raises(InputError, match=r"'item_id' is integer in .*rows-0.parquet and text in .*rows-2.parquet"):
        build_from_columns(tmp_path / "samples", "ready", read_declaration(file), tmp_path)


def test_a_failed_build_leaves_the_former_samples(tmp_path: Path) -> None:
    build(tmp_path, lambda made: None)
    before = (tmp_path / "samples" / "ready" / "manifest.json").read_bytes()
    with pytest.raises(BowerbirdError):
        build(tmp_path, put("clicked", 3))
    assert (tmp_path / "samples" / "ready" / "manifest.json").read_bytes() == before
    assert [each.name for each in (tmp_path / "samples").iterdir()] == ["ready"]


def test_csv_values_of_another_type_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("day,label,item\n2024-05-01,1,7\n2024-05-01,0,seven\n")
    file = tmp_path / "columns.toml"
    file.write_text(
        'files = ["rows.csv"]\ndate = "day"\n[labels.label]\n[features]\nitem = { kind = "category", type = "integer" }'
    )
    with pytest.raises(InputError, match=r"rows.csv: .*seven"):
        build_from_columns(tmp_path, "ready", read_declaration(file), tmp_path)


def test_tables_without_rows_are_refused(tmp_path: Path) -> None:
    file = write_table(tmp_path, [])
    with pytest.raises(InputError, match="hold no row"):
        build_from_columns(tmp_path / "samples", "ready", read_declaration(file), tmp_path)

"""The files of a new project: from a guessed schema, or a small example."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bowerbird.declare.columns import ColumnType
from bowerbird.declare.workspace import DECLARATIONS_FILE, SETTINGS_FILE
from bowerbird.durable import make_folder, storage_errors, write_atomically
from bowerbird.errors import InputError
from bowerbird.log.scaffolding.infer import Guess, NamedColumn, Outcome

_EXAMPLE_ROWS = 2_000


def write_project(folder: Path, files: dict[str, str]) -> None:
    """Write a new project's files; raises InputError where the folder already has one of them."""
    for name in files:
        if (folder / name).exists():
            raise InputError(f"{folder / name} exists.", "Choose another folder, or delete the file.")
    for name, text in files.items():
        path = folder.resolve() / name
        make_folder(path.parent)
        with storage_errors(path):
            write_atomically(path, text.encode())


def inferred_files(guess: Guess, log: Path) -> dict[str, str]:
    """Return name and text of the files of a project that reads ``log`` where it lies."""
    return {
        DECLARATIONS_FILE: _declarations(guess, log),
        SETTINGS_FILE: f'[paths]\nraw = {json.dumps(str(log.resolve().parent))}\ndata = "data"\n',
    }


def example_files() -> dict[str, str]:
    """Return name and text of the files of a small shop's project, with a made-up log."""
    return {
        DECLARATIONS_FILE: _EXAMPLE,
        SETTINGS_FILE: '[paths]\nraw = "raw"\ndata = "data"\n',
        "raw/views.csv": _example_log(),
        "raw/products.csv": "product,brand,price\n"
        + "".join(f"p{at},brand{at % 7},{5 + at % 13}.50\n" for at in range(60)),
    }


def _example_log() -> str:
    """Return a log in which users click what has their favourite brand, by arithmetic instead of chance."""
    lines = ["user,product,time,page,clicked"]
    for at in range(_EXAMPLE_ROWS):
        user, product, noise = at * 7 % 50, at * 11 % 60, at * 7_919 % 100
        clicked = int(noise < (60 if product % 7 == user % 7 else 10))
        seconds = 1_735_689_600 + at * 431
        lines.append(f"u{user},p{product},{seconds},{('home', 'search')[at % 2]},{clicked}")
    return "\n".join(lines) + "\n"


def _declarations(guess: Guess, log: Path) -> str:
    sections = [
        _header(guess, log),
        _entities(guess),
        _tables(guess),
        _events(guess),
        _features(guess),
        _labels(guess),
        _sources(guess, log),
        _project(guess),
    ]
    return "\n".join(section for section in sections if section)


def _header(guess: Guess, log: Path) -> str:
    notes = "\n".join(f"#   {line}" for line in guess.explanations)
    return (
        f'"""A first schema of {log.name}, guessed by `bowerbird init`: correct what is wrong."""\n\n'
        f"from bowerbird import declare as bb\n\n# What was guessed, and why:\n{notes}\n"
    )


def _entities(guess: Guess) -> str:
    lines = [f'{each.name} = bb.Entity("{each.name}", bb.{_kind(each)})' for each in (guess.user, guess.item)]
    return "\n".join(lines) + "\n"


def _kind(column: NamedColumn) -> str:
    return column.kind.name


def _table_of(guess: Guess) -> list[tuple[str, NamedColumn, list[NamedColumn]]]:
    tables = [(guess.user, guess.user_attributes), (guess.item, guess.item_attributes)]
    return [(f"{owner.name}_table", owner, columns) for owner, columns in tables if columns]


def _columns(columns: Sequence[NamedColumn]) -> str:
    return "{" + ", ".join(f'"{each.name}": bb.{_kind(each)}' for each in columns) + "}"


def _tables(guess: Guess) -> str:
    lines = [
        f'{name} = bb.Table("{name}", {owner.name}, {_columns(columns)})' for name, owner, columns in _table_of(guess)
    ]
    return "\n".join(lines) + "\n" if lines else ""


def _events(guess: Guess) -> str:
    who = f"[{guess.user.name}, {guess.item.name}]"
    lines = [f'exposure = bb.Exposure("exposure", {who}, {_columns(guess.context)})']
    lines += [f'{each.name} = bb.Event("{each.name}", {who})' for each in guess.outcomes]
    return "\n".join(lines) + "\n"


def _features(guess: Guess) -> str:
    user, item = guess.user.name, guess.item.name
    lines = [f'    "{name}": bb.category({name}),' for name in (user, item)]
    lines += [f'    "{each.name}": bb.category(exposure["{each.name}"]),' for each in guess.context]
    for table, _, columns in _table_of(guess):
        lines += [_attribute_feature(table, column) for column in columns]
    lines.append('    "hour": bb.hour(),')
    for outcome in guess.outcomes[:3]:
        prior = round(outcome.rate, 4)
        for key in (user, item):
            lines.append(
                f'    "{key}_{outcome.name}_rate": bb.rate({outcome.name}, exposure, by={key}, '
                f'window="7d", prior={prior}, strength=20),'
            )
    if guess.outcomes:
        main = guess.outcomes[0].name
        lines.append(f'    "last_{main}": bb.sequence({main}, by={user}, length=20, fields=[{item}]),')
    return "features = {\n" + "\n".join(lines) + "\n}\n"


def _attribute_feature(table: str, column: NamedColumn) -> str:
    value = f'{table}["{column.name}"]'
    made = f"bb.number({value}).log1p()" if column.kind is ColumnType.NUMBER else f"bb.category({value})"
    return f'    "{table}_{column.name}": {made},'


def _labels(guess: Guess) -> str:
    lines = [f'    bb.Label("{each.name}", {each.name}, within="1h"),' for each in guess.outcomes]
    return "labels = [\n" + "\n".join(lines) + "\n]\n" if lines else "labels: list[bb.Label] = []\n"


def _sources(guess: Guess, log: Path) -> str:
    key = [guess.user.column, guess.item.column, guess.time.column]
    lines = [
        *_source_start("log", log, "exposure"),
        f"        time=bb.Timestamp({json.dumps(guess.time.column)}, unit={json.dumps(guess.time.unit)}),",
        f"        id={json.dumps(guess.event_id)}," if guess.event_id else f"        key={json.dumps(key)},",
        f"        columns={_mapping([guess.user, guess.item, *guess.context])},",
        "        actions=[",
        *(f"            {_action(each)}," for each in guess.outcomes),
        "        ],",
        "    ),",
    ]
    for table, owner, columns in _table_of(guess):
        lines += [
            *_source_start(table, log, table),
            f"        key={json.dumps([owner.column])},",
            f"        columns={_mapping([owner, *columns])},",
            "    ),",
        ]
    return "sources = [\n" + "\n".join(lines) + "\n]\n"


def _source_start(name: str, log: Path, record: str) -> list[str]:
    return ["    bb.Source(", f'        "{name}",', f"        {json.dumps(log.name)},", f"        {record},"]


def _mapping(columns: Sequence[NamedColumn]) -> str:
    return json.dumps({each.name: each.column for each in columns if each.name != each.column})


def _action(outcome: Outcome) -> str:
    column = json.dumps(outcome.column)
    if outcome.threshold is None:
        return f"bb.Action({outcome.name}, {column})"
    return f"bb.Action({outcome.name}, bb.Field({column}) >= {outcome.threshold:g})"


def _project(guess: Guess) -> str:
    events = ", ".join(each.name for each in guess.outcomes)
    tables = ", ".join(name for name, _, _ in _table_of(guess))
    scenes = ""
    if guess.outcomes:
        main = guess.outcomes[0].name
        scenes = (
            f'\n    scenes=[bb.Scene("home", {guess.user.name}, {guess.item.name}, labels, '
            f"recall=[bb.Popular({main}), bb.CoVisitation({main})])],"
        )
    return (
        'project = bb.Project(\n    name="inferred",\n    exposure=exposure,\n'
        f"    item={guess.item.name},\n    user={guess.user.name},\n    events=[{events}],\n    tables=[{tables}],\n"
        f"    features=features,\n    labels=labels,{scenes}\n    sources=sources,\n)\n"
    )


_EXAMPLE = '''"""A small shop: which of the shown products does a user click?"""

from bowerbird import declare as bb

user = bb.Entity("user", bb.TEXT)
product = bb.Entity("product", bb.TEXT)
brand = bb.Entity("brand", bb.TEXT)

products = bb.Table("products", product, {"brand": brand, "price": bb.NUMBER})
view = bb.Exposure("view", [user, product], {"page": bb.TEXT})
click = bb.Event("click", [user, product])

features = {
    "user": bb.category(user),
    "product": bb.category(product),
    "brand": bb.category(products["brand"]),
    "page": bb.category(view["page"]),
    "price": bb.number(products["price"]).log1p(),
    "hour": bb.hour("Europe/Berlin"),
    "product_click_rate": bb.rate(click, view, by=product, window="7d", prior=0.1, strength=20),
    "user_brand_click_rate": bb.rate(click, view, by=[user, products["brand"]], prior=0.1, strength=5),
    "last_clicks": bb.sequence(click, by=user, length=10, fields=[product, products["brand"]]),
}
clicked = bb.Label("click", click, within="1h")

project = bb.Project(
    name="shop",
    exposure=view,
    item=product,
    user=user,
    events=[click],
    tables=[products],
    features=features,
    labels=[clicked],
    scenes=[bb.Scene("home", user, product, [clicked], recall=[bb.Popular(click), bb.CoVisitation(click)])],
    sources=[
        bb.Source(
            "views",
            "views.csv",
            view,
            bb.Timestamp("time", unit="s"),
            key=["user", "product", "time"],
            actions=[bb.Action(click, "clicked")],
        ),
        bb.Source("products", "products.csv", products, key=["product"]),
    ],
)
'''

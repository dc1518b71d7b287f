"""Loading a project's folder: what is wrong is named, with its line and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from bowerbird.declare.durations import microseconds
from bowerbird.declare.workspace import load_workspace
from bowerbird.errors import DeclarationError, InputError, NotFoundError

PROJECT = """\
from bowerbird import declare as bb

user, item = bb.Entity("user"), bb.Entity("item")
shown = bb.Exposure("shown", [user, item])
project = bb.Project(name="tiny", exposure=shown, user=user, item=item)
"""


def write(folder: Path, project: str = PROJECT, settings: str | None = None) -> Path:
    (folder / "project.py").write_text(project)
    if settings is not None:
        (folder / "bowerbird.toml").write_text(settings)
    return folder


def test_a_project_loads_with_defaults(tmp_path: Path) -> None:
    workspace = load_workspace(write(tmp_path))
    assert workspace.project.name == "tiny"
    assert workspace.settings.server.host == "127.0.0.1"
    assert workspace.log_folder == tmp_path / "data" / "log"


def test_settings_are_read(tmp_path: Path) -> None:
    workspace = load_workspace(write(tmp_path, settings='[paths]\ndata = "other"\n[server]\nport = 9000\n'))
    assert workspace.data_folder == tmp_path / "other"
    assert workspace.settings.server.port == 9000


def test_two_projects_do_not_mix(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "shop", tmp_path / "b" / "shop"]
    for folder, name in zip(folders, ("one", "two"), strict=True):
        folder.mkdir(parents=True)
        write(folder, PROJECT.replace("tiny", name))
    assert [load_workspace(folder).project.name for folder in folders] == ["one", "two"]


def test_a_folder_without_declarations(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="bowerbird init"):
        load_workspace(tmp_path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("[server]\nprot = 1\n", "prot"),
        ("[server]\nport = 'many'\n", "Expected `int`"),
        ("[server\n", "bowerbird.toml"),
        ("[server]\nslates_size = 'much'\n", "'much' is not a size; write a number of bytes, or one with KB"),
        ("[server]\nslates_size = '-1GB'\n", "'-1GB' is not a size"),
        ("[server]\nslates_size = 16\n", "Expected `str`"),
        ("[server]\nslates_days = -1\n", "slates_days = -1 is no number of days; 0 is no limit"),
        ("[server]\nslates_days = nan\n", "slates_days = nan is no number of days"),
        ("[server]\nslates_days = '7d'\n", "Expected `float`"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_workspace(write(tmp_path, settings=settings))


@pytest.mark.parametrize(
    ("project", "line", "expected"),
    [
        (PROJECT.replace("bb.Exposure", "bb.Exposition"), 4, "Exposition"),
        (PROJECT.replace("project =", "projects ="), 1, "`project` is not defined"),
        (PROJECT + "\nif True\n", 7, "SyntaxError"),
        (PROJECT.replace('name="tiny"', 'nam="tiny"'), 5, "nam"),
    ],
)
def test_declarations_that_do_not_run(tmp_path: Path, project: str, line: int, expected: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        load_workspace(write(tmp_path, project))
    (problem,) = caught.value.problems
    assert problem.line == line
    assert expected in problem.what


@pytest.mark.parametrize(
    ("text", "expected"), [("1h", 3_600_000_000), ("90s", 90_000_000), ("1.5d", 129_600_000_000), ("0s", 0)]
)
def test_durations(text: str, expected: int) -> None:
    assert microseconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "h", "1 month", "-1h", None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        microseconds(text)  # type: ignore[arg-type]

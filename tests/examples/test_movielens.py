"""The MovieLens example: its declarations, the conversion of its data, the demo as a whole."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from bowerbird.declare.workspace import load_workspace
from bowerbird.errors import InputError, UnavailableError
from bowerbird.log.sources.ingest import ingest
from bowerbird.plan.check import check
from bowerbird.samples.build import build_samples

EXAMPLE = Path(__file__).parents[2] / "examples" / "movielens"
DEMO_SECONDS = 1500

INTER = """\
user_id:token	item_id:token	rating:float	timestamp:float
1	2	5	880000000
2	1	2	880001000
1	1	4	880002000
2	2	3.0	891734400
"""
ITEM = """\
item_id:token	movie_title:token_seq	release_year:token	class:token_seq
1	Usual Suspects, The	1995	Crime Thriller Drama
2	Double vie de Véronique, La (Double Life of Veronique, The)	1991	Drama
3	Land Before Time III (1995)	V	unknown
"""
USER = """\
user_id:token	age:token	gender:token	occupation:token	zip_code:token
1	24	M	technician	85711
2	61	F	other	T8H1N
"""


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import prepare as module  # type: ignore[import-not-found]

    return module


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "recbole-1.2.1-py3-none-any.whl", {"inter": INTER, "item": ITEM, "user": USER})


def make_wheel(file: Path, tables: dict[str, str]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in tables.items():
            archive.writestr(f"recbole/dataset_example/ml-100k/ml-100k.{name}", text)
    return file


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_declarations_have_no_mistakes() -> None:
    assert check(load_workspace(EXAMPLE).project) == []


def test_title_is_no_feature() -> None:
    assert "title" not in load_workspace(EXAMPLE).project.features


def test_conversion(prepare: ModuleType, wheel: Path, tmp_path: Path) -> None:
    made = prepare.prepare(tmp_path / "raw", wheel, digest(wheel))
    assert (made.history, made.live, made.movies, made.users) == (3, 1, 3, 2)
    assert rows(tmp_path / "raw" / "ratings.csv")[0] == {
        "user": "1",
        "movie": "2",
        "rating": "5",
        "timestamp": "880000000",
    }
    assert [row["timestamp"] for row in rows(tmp_path / "raw" / "live" / "ratings.csv")] == ["891734400"]
    assert [row["age_group"] for row in rows(tmp_path / "raw" / "users.csv")] == ["18-24", "55 and over"]
    movies = rows(tmp_path / "raw" / "movies.csv")
    assert [row["title"] for row in movies] == [
        "The Usual Suspects",
        "La Double vie de Véronique (Double Life of Veronique, The)",
        "Land Before Time III",
    ]
    assert movies[0] | {"movie": "1", "title": ""} == {
        "movie": "1", "title": "", "year": "1995", "decade": "1990s", "genre": "Crime", "genre2": "Thriller",
    }  # fmt: skip
    assert (movies[2]["year"], movies[2]["genre"]) == ("1995", "")


def test_converted_files_become_samples(prepare: ModuleType, wheel: Path, tmp_path: Path) -> None:
    for name in ("project.py", "bowerbird.toml"):
        (tmp_path / name).write_bytes((EXAMPLE / name).read_bytes())
    prepare.prepare(tmp_path / "raw", wheel, digest(wheel))
    workspace = load_workspace(tmp_path)
    report = ingest(workspace, progress=False)
    assert report.types["exposure"].new == 3 and report.types["like"].new == 2 and not report.rejected
    manifest = build_samples(workspace)
    assert (manifest.rows, manifest.labels[0].positives) == (3, 1)


def test_wheel_of_other_contents(prepare: ModuleType, wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SHA-256"):
        prepare.prepare(tmp_path / "raw", wheel)


def test_wheel_without_the_data(prepare: ModuleType, tmp_path: Path) -> None:
    empty = make_wheel(tmp_path / "empty.whl", {"inter": INTER})
    with pytest.raises(InputError, match=r"ml-100k\.item"):
        prepare.prepare(tmp_path / "raw", empty, digest(empty))


def test_absent_wheel(prepare: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a file"):
        prepare.prepare(tmp_path / "raw", tmp_path / "absent.whl")


def test_offline(prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found for recbole==1.2.1")

    monkeypatch.setattr(subprocess, "run", offline)
    with pytest.raises(UnavailableError, match="--wheel FILE"):
        prepare.prepare(tmp_path / "raw")


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "demo.py"), "--out", str(tmp_path), "--live", "500", "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEMO_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Recommended now" in page and 'src="http' not in page
    assert "100.0000%" in done.stdout

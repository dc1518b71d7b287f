import json
import socket

import pytest

from bowerbird.cli.main import run
from bowerbird.declare.workspace import Workspace


def test_help_names_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("ingest", "train", "serve", "keys", "report"))


def test_a_typo_names_the_nearest_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["srve"]) == 2
    assert "Did you mean 'serve'?" in capsys.readouterr().err


def test_an_error_is_words_and_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "list", "--project", "nowhere"]) == 1
    error = capsys.readouterr().err
    assert "has no project.py" in error and "Traceback" not in error


def test_keys(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    project = ["--project", str(workspace.folder)]
    assert run(["keys", "create", "app", "--scope", "read", *project]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("bower_")
    assert run(["keys", "list", *project]) == 0
    listed = capsys.readouterr().out
    assert "app" in listed and key not in listed
    assert run(["keys", "create", "app", *project]) == 1
    assert run(["keys", "revoke", "app", *project]) == 0
    assert json.loads(workspace.keys_file.read_text()) == []


def test_up_keeps_a_server_until_it_is_stopped(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (workspace.folder / "bowerbird.toml").write_text(f"[server]\nport = {port}\n")
    project = ["--project", str(workspace.folder)]
    assert run(["up", *project]) == 0
    try:
        assert run(["up", *project]) == 0
        assert "runs already" in capsys.readouterr().out
    finally:
        assert run(["up", "--stop", *project]) == 0
    assert run(["up", "--stop", *project]) == 0
    assert "No server" in capsys.readouterr().out

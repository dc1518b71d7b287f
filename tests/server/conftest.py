import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bowerbird.client import Client
from bowerbird.declare.workspace import Workspace, load_workspace
from tests.server.process import ServerProcess
from tests.server.tiny import make_live, make_workspace, publish


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with two versions, the first live; to be copied, not served."""
    workspace = make_workspace(tmp_path_factory.mktemp("template") / "tiny")
    publish(workspace, 1)
    publish(workspace, 2, slope=2.0)
    return workspace


@pytest.fixture
def workspace(template: Workspace, tmp_path: Path) -> Workspace:
    """A workspace of the test's own."""
    shutil.copytree(template.folder, tmp_path / "tiny")
    copied = load_workspace(tmp_path / "tiny")
    make_live(copied, 1)
    return copied


@pytest.fixture(scope="session")
def shared(template: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that tests share."""
    folder = tmp_path_factory.mktemp("shared") / "tiny"
    shutil.copytree(template.folder, folder)
    workspace = load_workspace(folder)
    make_live(workspace, 1)
    with ServerProcess(workspace) as server:
        yield server


@pytest.fixture
def client(shared: ServerProcess) -> Iterator[Client]:
    with shared.client() as client:
        yield client

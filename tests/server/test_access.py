import stat
import time
from pathlib import Path

import pytest

from bowerbird.errors import ForbiddenError, InputError, NotFoundError, UnauthorizedError
from bowerbird.server.web.access import KeyStore


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


def test_without_keys_all_is_allowed(tmp_path: Path) -> None:
    KeyStore(tmp_path / "keys.json").authorise({}, "admin")


def test_a_key_allows_its_scopes_and_admin_all(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.json")
    reader, admin = store.create("app", ["read"]), store.create("boss", ["admin"])
    store.authorise(bearer(reader), "read")
    store.authorise({b"x-api-key": reader.encode()}, "read")
    store.authorise(bearer(admin), "write")
    with pytest.raises(ForbiddenError, match="not write"):
        store.authorise(bearer(reader), "write")
    for headers in ({}, bearer("wrong"), bearer("")):
        with pytest.raises(UnauthorizedError):
            store.authorise(headers, "read")


def test_the_file_holds_hashes_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "data" / "keys.json"
    key = KeyStore(file).create("app", ["read", "write"])
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_names_are_unique_and_revoked_keys_stop(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    server, command = KeyStore(file), KeyStore(file)
    key = command.create("app", ["read"])
    command.create("other", ["read"])
    with pytest.raises(InputError, match="exists"):
        command.create("app", ["read"])
    with pytest.raises(InputError):
        command.create("none", [])
    server.authorise(bearer(key), "read")
    command.revoke("app")
    with pytest.raises(NotFoundError):
        command.revoke("app")
    time.sleep(1.05)
    with pytest.raises(UnauthorizedError):
        server.authorise(bearer(key), "read")

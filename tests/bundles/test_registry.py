import threading

import msgspec
import pytest

from bowerbird.bundles.manifest import Lineage
from bowerbird.bundles.registry import Registry, VersionRecord, VersionStage
from bowerbird.errors import InputError, NotFoundError, StorageError


def record(version, name="home"):
    return VersionRecord(
        name=name,
        version=version,
        stage=VersionStage.CANDIDATE,
        path=f"{name}/{version}",
        digest="d" * 64,
        kind="torch",
        lineage=Lineage("run", "default", "0" * 64, "plan", "code"),
        metrics={"click": {"auc": 0.7, "gauc": float("nan")}},
        created="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def registry(tmp_path):
    opened = Registry(f"sqlite:///{tmp_path / 'registry.db'}", tmp_path / "bundles")
    for version in (1, 2, 3):
        opened.add(record(version))
    yield opened
    opened.close()


def stages(registry):
    return {one.version: str(one.stage) for one in registry.versions("home")}


def test_what_is_added_is_read_back(registry, tmp_path):
    assert registry.version("home", 2) == msgspec.convert(
        msgspec.to_builtins(registry.version("home", 2)), VersionRecord
    )
    assert registry.version("home", 2).lineage.samples == "default"
    assert registry.folder_of("home", 2) == tmp_path / "bundles" / "home" / "2"
    assert registry.next_version("home") == 4
    assert registry.next_version("other") == 1
    assert registry.live("home") is None
    assert registry.live_versions() == {}


def test_promotion_retires_the_former_live_version(registry):
    registry.promote("home", 1)
    registry.promote("home", 3)
    assert stages(registry) == {1: "retired", 2: "candidate", 3: "live"}
    assert registry.live("home").version == 3
    assert registry.live_versions() == {"home": 3}
    assert registry.version("home", 1).retired is not None
    registry.promote("home", 3)
    assert stages(registry) == {1: "retired", 2: "candidate", 3: "live"}


def test_rollback_walks_back_through_what_was_live(registry):
    for version in (1, 2, 3):
        registry.promote("home", version)
    assert registry.rollback("home").version == 2
    assert registry.rollback("home").version == 1
    assert stages(registry) == {1: "live", 2: "retired", 3: "retired"}
    with pytest.raises(NotFoundError, match="no earlier live version"):
        registry.rollback("home")
    assert stages(registry)[1] == "live"


def test_rollback_does_not_bring_back_what_was_rolled_back_from(registry):
    registry.promote("home", 1)
    registry.promote("home", 2)
    assert registry.rollback("home").version == 1
    registry.promote("home", 3)
    registry.retire("home", 2)
    assert registry.rollback("home").version == 1
    with pytest.raises(NotFoundError):
        registry.rollback("home")


def test_rollback_ignores_what_was_never_live(registry):
    registry.promote("home", 3)
    registry.retire("home", 2)
    with pytest.raises(NotFoundError):
        registry.rollback("home")


def test_rollback_after_the_live_version_was_retired_brings_it_back(registry):
    registry.promote("home", 2)
    registry.retire("home", 2)
    assert registry.live("home") is None
    assert registry.rollback("home").version == 2


def test_models_do_not_disturb_each_other(registry):
    registry.add(record(1, "search"))
    registry.promote("home", 1)
    registry.promote("search", 1)
    assert registry.live_versions() == {"home": 1, "search": 1}
    assert len(registry.versions()) == 4


def test_unknown_versions_and_taken_numbers_are_refused(registry):
    with pytest.raises(NotFoundError, match="no version 9 of 'home'"):
        registry.promote("home", 9)
    with pytest.raises(InputError, match="Version 2 of 'home' is recorded already"):
        registry.add(record(2))


def test_concurrent_promotions_leave_one_live_version(registry, tmp_path):
    errors = []

    def promote(version):
        own = Registry(f"sqlite:///{tmp_path / 'registry.db'}", tmp_path)
        try:
            for _ in range(10):
                own.promote("home", version)
        except Exception as error:
            errors.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=promote, args=(version,)) for version in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(stages(registry).values()).count("live") == 1


def test_a_database_that_cannot_be_opened_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="registry"):
        Registry(f"sqlite:///{tmp_path / 'absent' / 'registry.db'}", tmp_path)

"""Which versions of which models exist, and which one is live."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    JSON,
    Connection,
    Engine,
    Index,
    UniqueConstraint,
    create_engine,
    event,
    select,
    text,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from bowerbird.bundles.manifest import Lineage
from bowerbird.errors import InputError, NotFoundError, StorageError


class VersionStage(StrEnum):
    """Where a version stands in its life."""

    CANDIDATE = "candidate"
    LIVE = "live"
    RETIRED = "retired"


class VersionRecord(msgspec.Struct, frozen=True):
    """One version of a model: where its bundle lies, where it comes from, and its stage.

    ``path`` is relative to the bundles' folder and ``digest`` the SHA-256 of the manifest. ``metrics`` are the
    held-out ones by task; times are ISO 8601 in UTC.
    """

    name: str
    version: int
    stage: VersionStage
    path: str
    digest: str
    kind: str
    lineage: Lineage
    metrics: dict[str, Any]
    created: str
    promoted: str | None = None
    retired: str | None = None


_IS_LIVE = text("stage = 'live'")


class _Base(DeclarativeBase):
    pass


class _VersionRow(_Base):
    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("name", "version"),
        Index("one_live_version", "name", unique=True, sqlite_where=_IS_LIVE, postgresql_where=_IS_LIVE),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    stage: Mapped[str]
    path: Mapped[str]
    digest: Mapped[str]
    kind: Mapped[str]
    lineage: Mapped[dict[str, Any]] = mapped_column(JSON)
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[str]
    promoted: Mapped[str | None]
    retired: Mapped[str | None]


class Registry:
    """Versions in a database; every change is one transaction, so that processes may share it."""

    def __init__(self, url: str, bundles_folder: Path) -> None:
        """Open the database, making its tables when they are not there; raises StorageError."""
        self.bundles_folder = bundles_folder
        self._url = url
        with _storage_errors(url):
            self._engine = _engine(url)
            _Base.metadata.create_all(self._engine)

    def close(self) -> None:
        """Give back the database's connections."""
        self._engine.dispose()

    def add(self, record: VersionRecord) -> None:
        """Record a new version; raises InputError when its number is taken."""
        try:
            with self._transaction() as session:
                session.add(_VersionRow(**msgspec.to_builtins(record)))
        except IntegrityError as error:
            raise InputError(
                f"Version {record.version} of {record.name!r} is recorded already.", "Publish again."
            ) from error

    def versions(self, name: str | None = None) -> list[VersionRecord]:
        """Return all versions, or one model's, by name and number."""
        query = select(_VersionRow).order_by(_VersionRow.name, _VersionRow.version)
        if name is not None:
            query = query.where(_VersionRow.name == name)
        with self._transaction() as session:
            return [_record(row) for row in session.scalars(query)]

    def version(self, name: str, version: int) -> VersionRecord:
        """Return one version; raises NotFoundError."""
        with self._transaction() as session:
            return _record(_find(session, name, version))

    def folder_of(self, name: str, version: int) -> Path:
        """Return where a version's bundle lies; raises NotFoundError."""
        return self.bundles_folder / self.version(name, version).path

    def live(self, name: str) -> VersionRecord | None:
        """Return the live version of a model, or None."""
        with self._transaction() as session:
            row = _live(session, name)
            return _record(row) if row else None

    def live_versions(self) -> dict[str, int]:
        """Return the live version's number for each model that has one, the latest promoted last."""
        query = select(_VersionRow).where(_VersionRow.stage == VersionStage.LIVE)
        with self._transaction() as session:
            rows = session.scalars(query.order_by(_VersionRow.promoted, _VersionRow.name))
            return {row.name: row.version for row in rows}

    def next_version(self, name: str) -> int:
        """Return the number after the latest version's; another publisher may take it first."""
        return max((record.version for record in self.versions(name)), default=0) + 1

    def promote(self, name: str, version: int) -> None:
        """Make a version live and retire the one that was; raises NotFoundError."""
        with self._transaction() as session:
            row = _find(session, name, version)
            _retire_live(session, name, except_version=version)
            row.stage, row.promoted, row.retired = VersionStage.LIVE, _now(), None

    def retire(self, name: str, version: int) -> None:
        """Take a version out of use, if it is not already; raises NotFoundError."""
        with self._transaction() as session:
            row = _find(session, name, version)
            if row.stage != VersionStage.RETIRED:
                row.stage, row.retired = VersionStage.RETIRED, _now()

    def rollback(self, name: str) -> VersionRecord:
        """Make the version live that was live before the present one, and return it.

        Raises NotFoundError when there was none.
        """
        with self._transaction() as session:
            earlier = _before_live(session, name)
            if earlier is None:
                raise NotFoundError(
                    f"Model {name!r} has no earlier live version.",
                    "Promote one with `bowerbird models promote`.",
                )
            _retire_live(session, name, except_version=earlier.version)
            earlier.stage, earlier.retired = VersionStage.LIVE, None
            session.flush()
            return _record(earlier)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with _storage_errors(self._url), Session(self._engine) as session, session.begin():
            yield session


def _before_live(session: Session, name: str) -> _VersionRow | None:
    """Return what stopped being live last, of what became live before the live version did.

    A version that was rolled back from stopped before the one did that took its place.
    """
    live = _live(session, name)
    query = (
        select(_VersionRow)
        .where(_VersionRow.name == name, _VersionRow.promoted.is_not(None))
        .where(_VersionRow.stage == VersionStage.RETIRED)
        .order_by(_VersionRow.retired.desc(), _VersionRow.version.desc())
    )
    if live is not None:
        query = query.where(_VersionRow.promoted < live.promoted)
    return session.scalars(query).first()


def _retire_live(session: Session, name: str, except_version: int) -> None:
    session.execute(
        update(_VersionRow)
        .where(_VersionRow.name == name, _VersionRow.stage == VersionStage.LIVE)
        .where(_VersionRow.version != except_version)
        .values(stage=VersionStage.RETIRED, retired=_now())
    )


def _find(session: Session, name: str, version: int) -> _VersionRow:
    query = select(_VersionRow).where(_VersionRow.name == name, _VersionRow.version == version)
    row = session.scalars(query).first()
    if row is None:
        raise NotFoundError(f"There is no version {version} of {name!r}.", "See `bowerbird models list`.")
    return row


def _live(session: Session, name: str) -> _VersionRow | None:
    query = select(_VersionRow).where(_VersionRow.name == name, _VersionRow.stage == VersionStage.LIVE)
    return session.scalars(query).first()


def _record(row: _VersionRow) -> VersionRecord:
    return msgspec.convert({name: getattr(row, name) for name in VersionRecord.__struct_fields__}, VersionRecord)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _engine(url: str) -> Engine:
    """Return an engine; SQLite writes take the lock at the beginning, so that two never deadlock."""
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": 30})
    event.listen(engine, "connect", _no_implicit_begin)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _no_implicit_begin(connection: Any, _: object) -> None:
    connection.isolation_level = None


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _storage_errors(url: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        raise StorageError(
            f"The registry {url} refused: {error}.", "Check that the database can be written."
        ) from error

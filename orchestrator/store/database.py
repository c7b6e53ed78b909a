"""The database: connections, transactions, and its errors as ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from orchestrator.store import tables
from sync.kit import errors
from sync.wire import codec

BUSY_S = 10
EDIT = "edit"
"""The kind of the record of each edit."""


class StoreUnavailable(errors.Retryable):
    """The database cannot be used now. Answers go on from the bundle; edits do not."""

    code = "store_unavailable"


class Database:
    """One database. `open` before use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine: AsyncEngine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": BUSY_S})
        event.listen(self._engine.sync_engine, "connect", _durable)

    async def open(self) -> None:
        """Makes what is missing. Raises Misconfigured where the file cannot be used."""
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(tables.metadata.create_all)
                if await connection.scalar(select(tables.revision.c.serial)) is None:
                    await connection.execute(insert(tables.revision).values(id=1, serial=0))
        except IntegrityError:
            return  # another process made the row in the same moment
        except (SQLAlchemyError, OSError) as error:
            raise errors.Misconfigured(
                f"The database {self._path} cannot be used: check its permissions and the space on its disk.",
                code="database_unusable",
            ) from error

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reads. Raises StoreUnavailable."""
        try:
            async with self._engine.connect() as connection:
                yield connection
        except (DatabaseError, OSError) as error:
            raise StoreUnavailable("The database cannot be read now; try again.") from error

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, or rolled back whole. Raises StoreUnavailable."""
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (DatabaseError, OSError) as error:
            raise StoreUnavailable(
                "The database cannot be written now; nothing was changed. Try again.", retry_after_s=5
            ) from error

    async def checkpoint(self) -> None:
        """Moves the write-ahead log into the database: what was deleted is then on the disk no more."""
        async with self.reading() as connection:
            await connection.exec_driver_sql("pragma wal_checkpoint(truncate)")

    async def close(self) -> None:
        await self._engine.dispose()


async def record(connection: AsyncConnection, kind: str, fields: dict[str, object], tenant: str = "_platform") -> None:
    """Writes down, in the transaction of an edit, what the running hub is to put into the audit log about it."""
    await connection.execute(insert(tables.pending).values(tenant=tenant, kind=kind, fields=codec.pack(fields)))


async def next_serial(connection: AsyncConnection) -> int:
    """Raises the serial within the transaction of an edit."""
    await connection.execute(update(tables.revision).values(serial=tables.revision.c.serial + 1))
    return int(await connection.scalar(select(tables.revision.c.serial)) or 0)


def _durable(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("pragma journal_mode=wal")
    cursor.execute("pragma synchronous=full")
    cursor.execute("pragma secure_delete=on")
    cursor.execute("pragma foreign_keys=on")
    cursor.close()

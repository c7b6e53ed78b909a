"""The configuration and the keys, in SQL. Every edit raises the serial in its own transaction."""

from __future__ import annotations

from sqlalchemy import insert, select, update

from orchestrator.store import tables
from orchestrator.store.database import EDIT, Database, next_serial, record
from sync.bundle.snapshot import Key
from sync.crypto import digest
from sync.kit.ids import KeyId, PrincipalId, TenantId


async def note(database: Database, **told: object) -> None:
    """What is about to be done outside the database, for the audit log: written down before, never done in silence."""
    async with database.writing() as connection:
        await record(connection, EDIT, told)


class SqlConfiguration:
    """The ConfigurationStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def serial(self) -> int:
        async with self._database.reading() as connection:
            return int(await connection.scalar(select(tables.revision.c.serial)) or 0)

    async def document(self) -> str | None:
        newest = select(tables.documents.c.text).order_by(tables.documents.c.serial.desc()).limit(1)
        async with self._database.reading() as connection:
            text: str | None = await connection.scalar(newest)
            return text

    async def apply(self, text: str, *, at: float, by: str) -> int:
        async with self._database.writing() as connection:
            serial = await next_serial(connection)
            await connection.execute(insert(tables.documents).values(serial=serial, applied_at=at, applied_by=by, text=text))
            digest_ = digest.sha256(text.encode())
            await record(connection, EDIT, {"what": "configuration", "serial": serial, "by": by, "digest": digest_})
            return serial


class SqlKeys:
    """The KeyStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: Key, *, at: float) -> None:
        async with self._database.writing() as connection:
            row = {
                "id": key.id, "digest": key.digest, "tenant": key.tenant, "principal": key.principal,
                "roles": ",".join(key.roles), "created_at": at, "expires": key.expires,
            }  # fmt: skip
            await connection.execute(insert(tables.keys).values(**row))
            made = {"what": "key created", "key": key.id, "principal": key.principal, "roles": row["roles"]}
            await record(connection, EDIT, {**made, "serial": await next_serial(connection)}, key.tenant)

    async def revoke(self, key: KeyId, *, at: float) -> bool:
        change = update(tables.keys).where(tables.keys.c.id == key, tables.keys.c.revoked_at.is_(None)).values(revoked_at=at)
        async with self._database.writing() as connection:
            found = (await connection.execute(change)).rowcount > 0
            if found:
                await record(connection, EDIT, {"what": "key revoked", "key": key, "serial": await next_serial(connection)})
            return found

    async def keys(self) -> list[Key]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(tables.keys).where(tables.keys.c.revoked_at.is_(None)))
            return [
                Key(
                    id=KeyId(r.id),
                    digest=r.digest,
                    tenant=TenantId(r.tenant),
                    principal=PrincipalId(r.principal),
                    roles=tuple(r.roles.split(",")),
                    expires=r.expires,
                )
                for r in rows
            ]

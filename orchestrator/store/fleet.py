"""The agents and their invitations, in SQL. Every edit raises the serial in its own transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.fleet.admission import Admitted, Certified
from orchestrator.fleet.invitations import Invitation
from orchestrator.store import tables
from orchestrator.store.database import EDIT, Database, next_serial, record
from sync.bundle.snapshot import Agent
from sync.kit import errors
from sync.kit.ids import AgentId, Region, SiteId, TenantId
from sync.wire.levels import Zone

_AGENTS, _INVITATIONS = tables.agents, tables.invitations


class SqlAgents:
    """The AgentStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, admitted: Admitted, *, at: float, replace: bool = False) -> None:
        async with self._database.writing() as connection:
            await _keep(connection, admitted, at, replace=replace)

    async def find(self, agent: AgentId) -> Admitted | None:
        return await self._find(agent, _AGENTS.c.removed_at.is_(None))

    async def find_revoked(self, agent: AgentId) -> Admitted | None:
        return await self._find(agent, _AGENTS.c.removed_at.is_not(None))

    async def _find(self, agent: AgentId, state: ColumnElement[bool]) -> Admitted | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(_AGENTS).where(_AGENTS.c.id == agent, state))).first()
            return None if row is None else _admitted(row)

    async def certify(self, agent: AgentId, was: bytes, now: Certified) -> bool:
        known = update(_AGENTS).where(_AGENTS.c.id == agent, _AGENTS.c.certificate_key == was, _AGENTS.c.removed_at.is_(None))
        async with self._database.writing() as connection:
            return (await connection.execute(known.values(**_certified(now)))).rowcount > 0

    async def lock(self, agent: AgentId, why: str, *, at: float) -> bool:
        return await self._edit(agent, {"locked": why}, {"what": "agent locked", "why": why})

    async def unlock(self, agent: AgentId, *, at: float) -> bool:
        return await self._edit(agent, {"locked": ""}, {"what": "agent unlocked"})

    async def revoke(self, agent: AgentId, *, at: float) -> bool:
        return await self._edit(agent, {"removed_at": at}, {"what": "agent revoked"})

    async def agents(self) -> list[Admitted]:
        return [admitted for admitted in await self.all() if not admitted.locked]

    async def all(self) -> list[Admitted]:
        """Those that are not revoked, locked ones too."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(_AGENTS).where(_AGENTS.c.removed_at.is_(None)).order_by(_AGENTS.c.id))
            return [_admitted(row) for row in rows]

    async def _edit(self, agent: AgentId, values: dict[str, object], told: dict[str, object]) -> bool:
        change = update(_AGENTS).where(_AGENTS.c.id == agent, _AGENTS.c.removed_at.is_(None)).values(**values)
        async with self._database.writing() as connection:
            found = (await connection.execute(change)).rowcount > 0
            if found:
                await record(connection, EDIT, {**told, "agent": agent, "serial": await next_serial(connection)})
            return found


class SqlInvitations:
    """The InvitationStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, invitation: Invitation) -> None:
        row = {
            "id": invitation.id, "digest": invitation.digest, "name": invitation.name, "site": invitation.site,
            "zone": invitation.zone.value, "region": invitation.region, "tenants": ",".join(invitation.tenants),
            "expires": invitation.expires,
        }  # fmt: skip
        async with self._database.writing() as connection:
            if await _known(connection, invitation.name) is not None:
                raise errors.Misconfigured(
                    f"There is an agent '{invitation.name}' already: choose another --name, or revoke that one first.",
                    code="agent_exists",
                )
            await connection.execute(insert(_INVITATIONS).values(**row))
            told = {"what": "agent invited", "invitation": invitation.id, "agent": invitation.name, "site": invitation.site}
            await record(connection, EDIT, {**told, "zone": invitation.zone.value})

    async def find(self, invitation: str) -> Invitation | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(_INVITATIONS).where(_INVITATIONS.c.id == invitation))).first()
            return None if row is None else _invitation(row)

    async def open(self, now: float) -> list[Invitation]:
        async with self._database.reading() as connection:
            wanted = select(_INVITATIONS).where(_INVITATIONS.c.used_by.is_(None), _INVITATIONS.c.expires > now)
            return [_invitation(row) for row in await connection.execute(wanted.order_by(_INVITATIONS.c.expires))]

    async def withdraw(self, agent: AgentId, *, at: float) -> bool:
        open_ = update(_INVITATIONS).where(
            _INVITATIONS.c.name == agent, _INVITATIONS.c.used_by.is_(None), _INVITATIONS.c.expires > at
        )
        async with self._database.writing() as connection:
            found = (await connection.execute(open_.values(expires=at))).rowcount > 0
            if found:
                told = {"what": "invitation withdrawn", "agent": agent, "serial": await next_serial(connection)}
                await record(connection, EDIT, told)
            return found

    async def use(self, invitation: str, admitted: Admitted, *, at: float) -> bool:
        free = update(_INVITATIONS).where(
            _INVITATIONS.c.id == invitation, _INVITATIONS.c.used_by.is_(None), _INVITATIONS.c.expires > at
        )
        async with self._database.writing() as connection:
            taken = await connection.execute(free.values(used_at=at, used_by=admitted.agent.signing_key))
            if taken.rowcount == 0:
                return False
            await _keep(connection, admitted, at, replace=False)
            return True


async def _known(connection: AsyncConnection, agent: AgentId) -> Row[Any] | None:
    """The agent's row, unless it is revoked."""
    row = (await connection.execute(select(_AGENTS).where(_AGENTS.c.id == agent))).first()
    return row if row is not None and row.removed_at is None else None


async def _keep(connection: AsyncConnection, admitted: Admitted, at: float, *, replace: bool) -> None:
    agent = admitted.agent
    known = await _known(connection, agent.id)
    if known is not None and known.signing_key != agent.signing_key and not replace:
        raise errors.Misconfigured(
            f"An agent '{agent.id}' with other keys is admitted: --replace where its disk was lost, else another name.",
            code="agent_exists",
        )
    row = {
        "site": agent.site, "zone": agent.zone.value, "signing_key": agent.signing_key, "sealing_key": agent.sealing_key,
        "tenants": ",".join(agent.tenants), "admitted_at": at, "removed_at": None, "locked": "", **_certified(admitted.certified),
    }  # fmt: skip
    there = await connection.scalar(select(_AGENTS.c.id).where(_AGENTS.c.id == agent.id))
    if there is None:
        await connection.execute(insert(_AGENTS).values(id=agent.id, **row))
    else:
        await connection.execute(update(_AGENTS).where(_AGENTS.c.id == agent.id).values(**row))
    told = {"what": "agent admitted", "agent": agent.id, "site": agent.site, "zone": agent.zone.value}
    await record(connection, EDIT, {**told, "key": agent.signing_key, "serial": await next_serial(connection)})


def _certified(certified: Certified) -> dict[str, object]:
    return {
        "certificate_key": certified.key, "certificate_before": certified.before, "certificate_issued": certified.issued,
        "certificate_expires": certified.expires,
    }  # fmt: skip


def _admitted(row: Row[Any]) -> Admitted:
    agent = Agent(
        id=AgentId(row.id),
        site=SiteId(row.site),
        zone=Zone(row.zone),
        signing_key=row.signing_key,
        sealing_key=row.sealing_key,
        tenants=_tenants(row.tenants),
    )
    certified = Certified(row.certificate_key, row.certificate_before, row.certificate_issued, row.certificate_expires)
    return Admitted(agent, certified, row.locked)


def _invitation(row: Row[Any]) -> Invitation:
    return Invitation(
        row.id, row.digest, AgentId(row.name), SiteId(row.site), Zone(row.zone), Region(row.region), _tenants(row.tenants),
        row.expires, row.used_by or b"",
    )  # fmt: skip


def _tenants(text: str) -> tuple[TenantId, ...]:
    return tuple(TenantId(tenant) for tenant in text.split(",") if tenant)

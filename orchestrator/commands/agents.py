"""ringfence agents: who belongs to this hub, and who does no more."""

from __future__ import annotations

import datetime
import json
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from orchestrator import settings
from orchestrator.authority import authority as authorities
from orchestrator.commands.session import State, out, show, with_database
from orchestrator.fleet import admission, invitations
from orchestrator.fleet import status as fleet_status
from orchestrator.fleet.admission import Admitted, Place
from orchestrator.fleet.enrolment import Addresses, Enrolment, Terms
from orchestrator.fleet.invitations import Invitation
from orchestrator.store.administration import SqlConfiguration
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents, SqlInvitations
from orchestrator.store.ledger import SqlLedger
from orchestrator.tenants import document
from sync.bundle import snapshot
from sync.crypto import keyring, sealing
from sync.kit import clock as clocks
from sync.kit import errors, faults, files
from sync.kit.ids import AgentId, Region, SiteId, TenantId
from sync.kit.metrics import Registry
from sync.terminal import commands
from sync.wire import enrolment, invitation

Site = Annotated[str, typer.Option(help="The site of the configuration that it stands at.")]
ZoneOption = Annotated[str, typer.Option(help="on_premise, private_cloud or public_cloud.")]
RegionOption = Annotated[str, typer.Option(help="The site's region, to be sure: another one is refused.")]
Tenants = Annotated[
    list[str] | None, typer.Option("--tenant", help="Whose requests it may run; all of its site's without.", show_default=False)
]
Agent = Annotated[str, typer.Argument(help="The agent's name.")]
_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def invite(
    site: Site,
    zone: ZoneOption,
    region: RegionOption = "",
    tenant: Tenants = None,
    name: Annotated[str, typer.Option(help="What the agent is to be called; the site's name and four letters without.")] = "",
    ttl: Annotated[str, typer.Option(help="How long the line counts, as 30m, 1h or 7d.")] = "1h",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the line alone.")] = False,
    state: State = None,
) -> None:
    """Prints one line to paste on a server: it makes an agent of it, once, and as what is said here."""
    chosen, now = settings.read(state=state), time.time()
    lives_s = _seconds(ttl)
    keys = keyring.load_or_create(chosen.keyring)
    pin = authorities.load_or_create(chosen.authority, keys.at_rest, now).pin
    token = invitation.mint(pin)
    called = admission.named(name or f"{site}-{token.id[:4].lower()}")
    at = _addresses(chosen)

    async def keep(database: Database) -> None:
        place = await _place(database, site, zone, region, tenant or [])
        pepper = sealing.derive(keys.at_rest, "invitations")
        made = Invitation(
            token.id, invitations.keyed(pepper, token), called, place.site, place.zone, place.region, place.tenants, now + lives_s
        )  # fmt: skip
        await SqlInvitations(database).add(made)

    with_database(state, keep)
    line = f"ringfence-agent enrol --hub {shlex.quote(at.enrol)} --token {token.text}"
    if quiet:
        typer.echo(line)
        return
    until = datetime.datetime.fromtimestamp(now + lives_s, datetime.UTC).isoformat(timespec="minutes")
    out.print(f"On the server of '{called}', as root, once, before {until}:\n\n  {line}\n", soft_wrap=True, highlight=False)


def approve(
    request: Annotated[Path, typer.Argument(help="The file that 'ringfence-agent enrol --request' made.")],
    site: Site,
    zone: ZoneOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="A file for the answer, which goes back to the agent.")],
    region: RegionOption = "",
    tenant: Tenants = None,
    broker_url: Annotated[str, typer.Option(help="Where the agent reaches the broker; by default where the hub says.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Its disk was lost: these are the new keys of the same agent.")
    ] = False,
    state: State = None,
) -> None:
    """Admits an agent without a line, by its request's file: compare the fingerprint with the one that it printed."""
    chosen = settings.read(state=state)
    asked = enrolment.read_request(commands.read_file(request))

    async def keep(database: Database) -> bytes:
        place = await _place(database, site, zone, region, tenant or [])
        desk = _desk(chosen, database, broker_url)
        certified, chain = desk.certify(admission.named(asked.name), asked.certificate_request)
        admitted = Admitted(admission.agent_of(asked, AgentId(asked.name), place), certified)
        await SqlAgents(database).add(admitted, at=time.time(), replace=replace)
        return desk.answer(admitted, place.region, chain)

    files.write_atomically(output, with_database(state, keep), mode=files.PRIVATE)
    root = enrolment.shown(authorities.load(chosen.authority, keyring.load(chosen.keyring).at_rest).pin)
    out.print(f"'{asked.name}' is admitted as {zone} at '{site}'; its fingerprint is [bold]{asked.fingerprint}[/].", soft_wrap=True)
    out.print(f"The fingerprint of this hub's root is [bold]{root}[/]: the agent prints it too.", soft_wrap=True)
    out.print(f"Bring {output} to the agent: ringfence-agent enrol --response {output.name}", soft_wrap=True)


def list_agents(
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON an agent.")] = False, state: State = None
) -> None:
    """The agents that are admitted, and why one gets no work; '?' where the hub does not run. More: GET /v1/admin/agents."""
    found = with_database(state, lambda db: SqlAgents(db).all())
    left_out = fleet_status.read(settings.read(state=state).fleet, time.time())

    def why_not(agent: AgentId) -> str | None:
        if left_out is None:
            return None
        return left_out[agent].why if agent in left_out else ""

    if as_json:
        for admitted in found:
            agent = admitted.agent
            told = {
                "id": agent.id, "zone": agent.zone, "site": agent.site, "tenants": agent.tenants, "locked": admitted.locked,
                "certificate_expires": admitted.certified.expires, "left_out": why_not(agent.id),
            }  # fmt: skip
            typer.echo(json.dumps(told))
        return
    table = Table("id", "zone", "site", "tenants", "certificate until", "locked", "gets no work")
    for admitted in found:
        agent = admitted.agent
        until = datetime.datetime.fromtimestamp(admitted.certified.expires, datetime.UTC).isoformat(timespec="minutes")
        tenants, why = ", ".join(agent.tenants) or "all", why_not(agent.id)
        table.add_row(agent.id, agent.zone, agent.site, tenants, until, admitted.locked, "?" if why is None else why)
    show(table)


def list_invitations(state: State = None) -> None:
    """The invitations that can still be used. The tokens themselves are not kept."""
    table = Table("agent", "zone", "site", "tenants", "until")
    for open_ in with_database(state, lambda db: SqlInvitations(db).open(time.time())):
        until = datetime.datetime.fromtimestamp(open_.expires, datetime.UTC).isoformat(timespec="minutes")
        table.add_row(open_.name, open_.zone, open_.site, ", ".join(open_.tenants) or "all", until)
    show(table)


def uninvite(agent: Agent, state: State = None) -> None:
    """Withdraws the open invitations of an agent that has not come."""
    if not with_database(state, lambda db: SqlInvitations(db).withdraw(AgentId(agent), at=time.time())):
        raise errors.Misconfigured(
            f"There is no open invitation of '{agent}': 'ringfence agents invitations' shows them.", code="no_invitation"
        )
    out.print(f"The invitation of '{agent}' is withdrawn.")


def revoke(agent: Agent, state: State = None) -> None:
    """Takes an agent out for good: it gets no work and no certificate, and the broker cuts it off within a second."""
    if not with_database(state, lambda db: SqlAgents(db).revoke(AgentId(agent), at=time.time())):
        raise _unknown(agent)
    out.print(f"The agent '{agent}' is revoked. To have it back: a new invitation.")


def lock(
    agent: Agent,
    reason: Annotated[str, typer.Option(help="Why, for the record and for the agent.")],
    state: State = None,
) -> None:
    """Keeps an agent out until it is unlocked: the broker cuts it off within a second."""
    if not with_database(state, lambda db: SqlAgents(db).lock(AgentId(agent), reason, at=time.time())):
        raise _unknown(agent)
    out.print(f"The agent '{agent}' is locked: {reason}.")


def unlock(agent: Agent, state: State = None) -> None:
    """Lets a locked agent in again: after an alarm, only once you know whose keys they are."""
    if not with_database(state, lambda db: SqlAgents(db).unlock(AgentId(agent), at=time.time())):
        raise _unknown(agent)
    out.print(f"The agent '{agent}' is let in again.")


def _unknown(agent: str) -> errors.Misconfigured:
    return errors.Misconfigured(f"There is no agent '{agent}': 'ringfence agents list' shows them.", code="no_agent")


def _seconds(ttl: str) -> float:
    count, unit = ttl[:-1], ttl[-1:]
    seconds = int(count) * _UNITS[unit] if count.isdecimal() and unit in _UNITS else 0
    if not 0 < seconds <= invitations.MAX_TTL_S:
        raise errors.Misconfigured(f"--ttl {ttl}: write it as 30m, 1h or 7d, at most 30d.", code="bad_option")
    return float(seconds)


async def _place(database: Database, site: str, zone: str, region: str, tenants: list[str]) -> Place:
    text = await SqlConfiguration(database).document()
    if text is None:
        raise errors.Misconfigured("There is no configuration yet: begin with 'ringfence apply -f FILE'.", code="no_configuration")
    parsed = document.parse(text, "the applied configuration")
    sites = {SiteId(n): snapshot.Site(SiteId(n), Region(s.region), s.jurisdiction) for n, s in parsed.sites.items()}
    known = [TenantId(t.id) for t in parsed.tenants]
    return admission.place(site=site, zone=zone, region=region, tenants=tenants, sites=sites, known=known)


def _desk(chosen: settings.Settings, database: Database, broker_url: str) -> Enrolment:
    """What the running hub has for those who come by network, for one who comes by stick."""
    clock, keys = clocks.SystemClock(), keyring.load_or_create(chosen.keyring)
    made = authorities.load_or_create(chosen.authority, keys.at_rest, clock.wall())
    known = _addresses(chosen)
    at = Addresses(broker_url or known.broker, known.enrol)
    return Enrolment(
        agents=SqlAgents(database), invited=SqlInvitations(database), authority=lambda: made, signer=keys.signer, pepper=b"",
        addresses=lambda: at, terms=Terms(chosen.certificate_hours * 3600, chosen.certificate_grace_days * 86_400), clock=clock,
        faults=faults.Faults(chosen.state / "faults.json", Registry(), clock), incidents=SqlLedger(database),
    )  # fmt: skip


def _addresses(chosen: settings.Settings) -> Addresses:
    """Where agents reach the hub: as the running one says, else as the settings do."""
    if chosen.address.exists():
        told = json.loads(chosen.address.read_text())
        return Addresses(str(told["broker"]), str(told["enrol"]))
    broker = chosen.nats_url or f"tls://{chosen.known_as}:{chosen.nats_port}"
    return Addresses(broker, f"https://{chosen.known_as}:{chosen.enrol_port}")

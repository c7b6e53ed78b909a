"""What `ringfence doctor` looks at. Needs no running hub."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from orchestrator.authority import authority as authorities
from orchestrator.commands.session import with_database
from orchestrator.fleet import status as fleet_status
from orchestrator.records.siem import Sink
from orchestrator.records.witness import read as read_witness
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents
from orchestrator.store.ledger import SqlLedger
from orchestrator.store.ledger_reading import SqlLedgerReader
from orchestrator.store.retention import SqlRetention
from sync.audit import rows
from sync.crypto import keyring
from sync.kit import errors, faults
from sync.kit.ids import AgentId
from sync.terminal import checkup
from sync.terminal.checkup import Line
from sync.terminal.checkup import State as Health

CHECKPOINT_LATE_S = 2 * 3600.0
SOON_S = 29 * 86_400.0
"""Before this the hub makes the next issuer by itself, where it has the root's key."""
ROOT_SOON_S = 400 * 86_400.0
"""A root must outlive the issuers that it makes, and its successor reach every agent."""
REACH_S = 3.0
MOST_AGENTS = 20
"""Agents that are named one by one: after a cut all of them may be left out, and the rest of the list must stay readable."""


def lines(chosen: Settings) -> Iterator[Line]:
    """A line for each thing that was looked at."""

    def keys() -> Line:
        keyring.load(chosen.keyring)
        return Line("keys", Health.PASS, f"{chosen.keyring} is private and whole")

    yield checkup.guarded("keys", keys, "restore it from a backup: without it nothing that was sealed or signed is of use")

    yield checkup.guarded("authority", lambda: _authority(chosen), "restore it from a backup: agents can renew nothing without it")
    yield from _process(chosen)
    yield from _fleet(chosen)

    def journal() -> Line:
        if not chosen.journal.exists():
            return Line("journal", Health.WARN, "there is none yet", "start the hub once")
        position = rows.verify(chosen.journal, AgentId("_hub"), keyring.load(chosen.keyring).signer.public_key)
        return Line("journal", Health.PASS, f"{position.next} records, all chained and signed")

    yield checkup.guarded("journal", journal, "the next start keeps it aside and begins another; keep it for your auditor")

    def settings_of_others() -> Line:
        for text in chosen.witnesses:
            read_witness(text)
        for url in chosen.siem:
            Sink(url)
        return Line("witnesses and SIEM", Health.PASS, f"{len(chosen.witnesses)} witnesses, {len(chosen.siem)} receivers")

    yield checkup.guarded("witnesses and SIEM", settings_of_others, "correct RINGFENCE_WITNESSES or RINGFENCE_SIEM")
    if chosen.database.exists():
        try:
            yield from with_database(chosen.state, _database_lines)
        except errors.RingfenceError as error:
            yield Line("database", Health.FAIL, str(error), "answers go on from the bundle; restore the database from a backup")
    yield from checkup.faults(faults.read(chosen.state / "faults.json").items(), time.time())


async def _database_lines(database: Database) -> list[Line]:
    reader, store, lines, now = SqlLedgerReader(database), SqlLedger(database), [], time.time()
    generation = await store.generation()
    for tenant, size in (await reader.sizes()).items():
        signed = await store.checkpoint(tenant, generation)
        covered, at = (signed.size, signed.at) if signed else (0, 0.0)
        late = now - at > CHECKPOINT_LATE_S
        advice = "is the hub running? it signs at least hourly" if late else ""
        lines.append(
            Line(f"ledger of {tenant}", Health.WARN if late else Health.PASS, f"{covered} of {size} records signed", advice)
        )
    for row in await reader.authors():
        if row.claimed_next > row.position.next:
            missing = row.claimed_next - row.position.next
            lines.append(
                Line(
                    f"journal of {row.position.author}", Health.WARN, f"{missing} records have not come",
                    "they come when its line is up; where its disk is lost, 'ringfence audit gaps' is the record of it",
                )
            )  # fmt: skip
    for admitted in await SqlAgents(database).all():
        if admitted.locked:
            advice = f"ringfence agents unlock {admitted.agent.id}, or revoke it"
            lines.append(Line(f"agent {admitted.agent.id}", Health.WARN, f"locked: {admitted.locked}", advice))
    for made in await SqlRetention(database).erasures():
        if made.waiting:
            advice = "they confirm when they are on line; where a disk is lost, say so in your own record"
            lines.append(Line(f"erasure {made.id}", Health.WARN, f"waits for {', '.join(made.waiting)}", advice))
    return lines


def _authority(chosen: Settings) -> Line:
    if not chosen.authority.exists():
        return Line("authority", Health.WARN, "there is none yet", "the first start makes it, and 'ringfence hub init'")
    found = authorities.load(chosen.authority, keyring.load(chosen.keyring).at_rest)
    issuer, root = (end - time.time() for end in (found.issuer_expires, found.root_expires))
    told = f"the issuer counts for {issuer / 86_400:.0f} days more, the root for {root / 86_400:.0f}"
    if root < ROOT_SOON_S:
        return Line("authority", Health.FAIL if root <= 0 else Health.WARN, told, "ringfence ca rotate --root")
    if issuer < SOON_S:
        return Line(
            "authority", Health.FAIL if issuer <= 0 else Health.WARN, told, "ringfence ca rotate, with what keeps the root's key"
        )
    if found.roots > 1:
        return Line("authority", Health.WARN, f"{told}; two roots count", "ringfence ca retire, once every agent has the new one")
    return Line("authority", Health.PASS, f"{told}; the root's key is kept by: {found.wrapper}")


def _process(chosen: Settings) -> Iterator[Line]:
    """Whether the hub runs, and what agents need of it is open."""
    try:
        told = json.loads(chosen.address.read_text())
    except (OSError, ValueError):
        yield Line("process", Health.WARN, "the hub does not run", "start it with 'ringfence serve'")
        return
    for what, url in (("API", told["url"]), ("broker", told["here"]), ("entrance", told["enrol"])):
        at = urlsplit(str(url))
        try:
            socket.create_connection((at.hostname or "", at.port or 0), timeout=REACH_S).close()
        except OSError as error:
            advice = "is it running? agents on other machines need the name in DNS, and the port open"
            yield Line(what, Health.FAIL, f"{url} does not answer ({error.strerror or type(error).__name__})", advice)
        else:
            yield Line(what, Health.PASS, f"{url} answers")


def _fleet(chosen: Settings) -> Iterator[Line]:
    """Return a line for each agent that the running hub gives no work, with its reason."""
    left_out = fleet_status.read(chosen.fleet, time.time())
    if left_out is None:
        return
    for agent, found in sorted(left_out.items())[:MOST_AGENTS]:
        yield Line(f"agent {agent}", Health.WARN, f"it gets no work: {found.why}", fleet_status.ADVICE[found.reason])
    if len(left_out) > MOST_AGENTS:
        more = len(left_out) - MOST_AGENTS
        yield Line("agents", Health.WARN, f"{more} more get no work", "'ringfence agents list' names them")
    if not left_out:
        yield Line("agents", Health.PASS, "each agent gets work")

"""What `ringfence-agent doctor` looks at. Needs no running agent."""

from __future__ import annotations

import time
from collections.abc import Iterator

from edge_agent import status as status_file
from edge_agent.agent import FAULTS
from edge_agent.identity import identity
from edge_agent.identity.identity import Identity
from edge_agent.settings import Settings
from edge_agent.work.guard import Guard
from sync.audit import rows
from sync.crypto import authority
from sync.kit import clock as clocks
from sync.kit import errors, faults
from sync.kit.ids import SiteId
from sync.terminal import checkup
from sync.terminal.checkup import Line, State


def lines(settings: Settings, me: Identity) -> Iterator[Line]:
    """A line for each thing that was looked at."""
    guard = Guard(
        settings.state, me.id, SiteId(me.admission.site), me.hub_key, me.keys.at_rest, clocks.SystemClock(), lambda *_: None
    )  # fmt: skip
    guard.load()
    yield _bundle(guard)
    yield from _contact(guard)
    told = status_file.read(settings.state)
    yield _process(told)
    yield checkup.guarded("certificate", lambda: _certificate(me, told), "enrol this agent anew")
    yield checkup.guarded("journal", lambda: _journal(settings, me), "the next start keeps it aside and begins another: keep it")
    if settings.journal.exists():
        yield _room(settings)
    yield from checkup.faults(faults.read(settings.state / FAULTS).items(), time.time())


def _bundle(guard: Guard) -> Line:
    current = guard.current
    if not current.serial:
        advice = "bring the line up, or import one: 'ringfence bundle export' at the hub"
        return Line("bundle", State.FAIL, "there is none: nothing can be decided", advice)
    return Line("bundle", State.PASS, f"serial {current.serial}, {len(current.tenants)} tenants")


def _contact(guard: Guard) -> Iterator[Line]:
    age = guard.age_s()
    for tenant in guard.current.tenants.values():
        left = tenant.grace_s - age
        state = State.FAIL if left <= 0 else State.WARN if left < tenant.grace_s / 4 else State.PASS
        advice = "" if state is State.PASS else "bring the line up, or import a bundle, before the grace time is over"
        found = f"the hub was heard {age / 3600:.1f} h ago; grace ends in {left / 3600:.1f} h" if left > 0 else "grace is over"
        yield Line(f"contact for {tenant.id}", state, found, advice)


def _process(told: dict[str, object]) -> Line:
    if not told:
        return Line("process", State.WARN, "the agent does not run", "start it with 'ringfence-agent run'")
    mode, waiting = str(told.get("mode")), told.get("journal_waiting")
    advice = "" if mode == "online" else "look at the line: the site serves what it can meanwhile"
    return Line("process", State.PASS if mode == "online" else State.WARN, f"{mode}; {waiting} records wait for the hub", advice)


def _certificate(me: Identity, told: dict[str, object]) -> Line:
    left = authority.certificate_times(identity.chain(me.state))[1] - time.time()
    refused = str(told.get("refused") or "")
    if refused:
        return Line("certificate", State.FAIL, refused, "ask the hub's people: 'ringfence agents list' there says more")
    if left <= 0:
        advice = "it is renewed by itself within its grace when the hub's enrolment port is reached"
        return Line("certificate", State.FAIL, f"it ended {-left / 3600:.1f} h ago", advice)
    return Line("certificate", State.PASS, f"it counts for {left / 3600:.1f} h more, and is renewed at half its time")


def _journal(settings: Settings, me: Identity) -> Line:
    if not settings.journal.exists():
        return Line("journal", State.WARN, "there is none yet", "start the agent once")
    position = rows.verify(settings.journal, me.id, me.keys.signer.public_key)
    return Line("journal", State.PASS, f"{position.next} records of epoch {position.epoch}, all chained and signed")


def _room(settings: Settings) -> Line:
    try:
        used = rows.used(settings.journal)
    except errors.RingfenceError as error:
        return Line("journal's room", State.FAIL, str(error))
    cap = settings.journal_mib << 20
    if not cap:
        return Line("journal's room", State.PASS, f"{used >> 20} MiB, without a cap")
    share = used / cap
    state = State.FAIL if share >= 1 else State.WARN if share >= 0.7 else State.PASS
    advice = "" if state is State.PASS else "bring the line up, export the journal, or raise RINGFENCE_AGENT_JOURNAL_MIB"
    return Line("journal's room", state, f"{used >> 20} of {settings.journal_mib} MiB, {share:.0%}", advice)

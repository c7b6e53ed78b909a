"""What `ringfence-agent doctor` finds out about the line: name, port, TLS, clock, and what the broker lets this agent do."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

from edge_agent.identity.identity import Identity
from edge_agent.settings import Settings
from sync.bus.nats import NatsBus
from sync.kit import errors
from sync.kit.ids import SiteId
from sync.terminal.checkup import Line, State
from sync.wire import subjects

REACH_S = 5.0
SKEW_S = 60.0


def lines(settings: Settings, me: Identity) -> Iterator[Line]:
    """A line a step, for the broker and for the hub's entrance; after one that fails the ones behind it are left out."""
    broker = urlsplit(settings.broker_url or me.admission.broker_url)
    yield from _reach("broker", broker, me, tls=broker.scheme == "tls", http=False)
    yield from _reach("entrance", urlsplit(me.admission.enrol_url), me, tls=True, http=True)
    yield _rights(settings, me)


def _reach(what: str, at: SplitResult, me: Identity, *, tls: bool, http: bool) -> Iterator[Line]:
    host, port = at.hostname or "", at.port or 0
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except OSError as error:
        yield Line(
            f"{what}: name", State.FAIL, f"{host} has no address ({error.strerror})", "look at this machine's DNS, or /etc/hosts"
        )
        return
    yield Line(f"{what}: name", State.PASS, f"{host} is {', '.join(addresses)}")
    try:
        with socket.create_connection((host, port), timeout=REACH_S) as line:
            yield Line(f"{what}: port", State.PASS, f"{host}:{port} is open")
            if tls:
                yield from _handshake(what, line, host, me, http=http)
    except OSError as error:
        told = error.strerror or type(error).__name__
        yield Line(
            f"{what}: port",
            State.FAIL,
            f"{host}:{port} does not answer ({told})",
            "open it outwards in the firewall; is the hub running?",
        )


def _handshake(what: str, line: socket.socket, host: str, me: Identity, *, http: bool) -> Iterator[Line]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(me.trusted)
        context.load_cert_chain(me.certificate)
        with context.wrap_socket(line, server_hostname=host) as tls:
            ends = ssl.cert_time_to_seconds(str((tls.getpeercert() or {}).get("notAfter")))
            yield Line(
                f"{what}: TLS",
                State.PASS,
                f"{tls.version()}, of this agent's hub, for {(ends - time.time()) / 86_400:.0f} days more",
            )
            if http:
                yield _clock(tls, host)
    except (ssl.SSLError, OSError, ValueError) as error:
        told = getattr(error, "verify_message", "") or getattr(error, "reason", "") or type(error).__name__
        advice = "somebody may stand in the line, or the hub is known by another name: compare 'ringfence ca show' at the hub"
        yield Line(f"{what}: TLS", State.FAIL, f"refused: {told}", advice)


def _clock(tls: ssl.SSLSocket, host: str) -> Line:
    tls.sendall(f"GET /v1/enrol/authority HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head = tls.recv(4096).decode("latin-1").lower()
    date = next((row.removeprefix("date:").strip() for row in head.split("\r\n") if row.startswith("date:")), "")
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return Line("clock", State.WARN, "the hub did not say what time it is", "is that address the hub's?")
    if abs(skew) > SKEW_S:
        return Line("clock", State.FAIL, f"it differs from the hub's by {skew:+.0f} s", "set it: timedatectl set-ntp true")
    return Line("clock", State.PASS, f"within {abs(skew) + 1:.0f} s of the hub's")


def _rights(settings: Settings, me: Identity) -> Line:
    """Logs in as the agent does, and asks for what only this agent may have."""
    try:
        asyncio.run(_ask(settings, me))
    except (errors.RingfenceError, TimeoutError, OSError) as error:
        told = str(error) or "no answer"
        return Line("broker: rights", State.FAIL, told, "is the agent revoked or locked? 'ringfence agents list' at the hub")
    return Line("broker: rights", State.PASS, f"logged in as '{me.id}', and its site's bundle may be read")


async def _ask(settings: Settings, me: Identity) -> None:
    bus = NatsBus(me.login(settings.broker_url), me.id, agent=me.id)
    try:
        async with asyncio.timeout(REACH_S):
            await bus.connect()
            await bus.get(subjects.BUNDLE_BUCKET, SiteId(me.admission.site))
    finally:
        await bus.close()

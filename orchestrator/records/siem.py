"""Audit records on their way to a SIEM, as they come into the ledger: syslog (RFC 5424, over TCP as RFC 6587 or UDP) or OTLP/HTTP.

At least once: where the other side does not take them they wait in the ledger, and are sent from there.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import aiohttp

from orchestrator.ledger import records
from orchestrator.ledger.records import Record
from orchestrator.store.ledger_reading import SqlLedgerReader
from sync.audit import kinds
from sync.kit import errors, logs
from sync.kit.faults import Fault, Faults
from sync.kit.ids import TenantId

log = logs.get("siem")
AT_ONCE = 500
TIMEOUT_S = 10.0
_FACILITY_AUDIT, _NOTICE, _WARNING = 13, 5, 4
_ENTERPRISE = "ringfence@32473"
_BAD = ("failed", "refused", kinds.INTERRUPTED)


class Sink:
    """One receiver. `send` returns when it has taken all of them, and raises what asyncio or aiohttp does where it has not."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        scheme = parts.scheme
        if scheme not in ("syslog+tcp", "syslog+udp", "otlp+http", "otlp+https") or not parts.hostname:
            raise errors.Misconfigured(
                f"'{url}' is no receiver of audit records: write syslog+tcp://HOST:PORT, syslog+udp://HOST:PORT or "
                "otlp+http://HOST:PORT/v1/logs.",
                code="bad_siem_url",
            )
        self.name = url
        self._scheme = scheme
        self._host = parts.hostname
        self._port = parts.port or (514 if scheme.startswith("syslog") else 4318)
        self._url = url.removeprefix("otlp+")

    async def send(self, some: Sequence[Record]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            if self._scheme == "syslog+tcp":
                await self._send_tcp(b"".join(_framed(_syslog(record)) for record in some))
            elif self._scheme == "syslog+udp":
                await self._send_udp([_syslog(record) for record in some])
            else:
                await self._send_otlp(some)

    async def _send_tcp(self, data: bytes) -> None:
        _, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(data)
            await writer.drain()
        finally:
            writer.close()
            await writer.wait_closed()

    async def _send_udp(self, datagrams: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            for datagram in datagrams:
                await loop.sock_sendto(line, datagram, (self._host, self._port))

    async def _send_otlp(self, some: Sequence[Record]) -> None:
        body = {
            "resourceLogs": [
                {
                    "resource": {"attributes": [_attribute("service.name", "ringfence")]},
                    "scopeLogs": [{"scope": {"name": "ringfence.audit"}, "logRecords": [_otlp(record) for record in some]}],
                }
            ]
        }
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session,
            session.post(self._url, json=body, allow_redirects=False) as response,
        ):
            if response.status >= 300:
                raise errors.Retryable(f"{self._url} answered {response.status}.", code="siem_refused")


class Forwarder:
    """Sends what is new in the ledger to the receivers."""

    def __init__(self, sinks: Sequence[Sink], reader: SqlLedgerReader, faults: Faults) -> None:
        self._sinks = sinks
        self._reader = reader
        self._faults = faults

    async def forward(self) -> None:
        for sink in self._sinks:
            try:
                for tenant, size in (await self._reader.sizes()).items():
                    await self._forward(sink, tenant, size)
            except (OSError, TimeoutError, aiohttp.ClientError, errors.Retryable) as error:
                self._faults.note(Fault.FORWARDING_FAILED, f"{sink.name}: {str(error)[:150] or type(error).__name__}")

    async def _forward(self, sink: Sink, tenant: TenantId, size: int) -> None:
        at = await self._reader.forwarded(sink.name, tenant)
        some: list[Record] = []
        if at >= size:
            return
        async for segment in self._reader.segments(tenant, from_leaf=at):
            some += [record for record in records.of(segment) if record.leaf >= at]
            if len(some) >= AT_ONCE:
                at = await self._send(sink, tenant, some)
                some = []
        if some:
            await self._send(sink, tenant, some)

    async def _send(self, sink: Sink, tenant: TenantId, some: Sequence[Record]) -> int:
        await sink.send(some)
        at = some[-1].leaf + 1
        await self._reader.set_forwarded(sink.name, tenant, at)
        return at


def _syslog(record: Record) -> bytes:
    """One message of RFC 5424: the place in the ledger as structured data, the fields as JSON."""
    told = record.told()
    severity = _WARNING if told.get("outcome") in _BAD else _NOTICE
    data = f'[{_ENTERPRISE} tenant="{record.tenant}" leaf="{record.leaf}" hash="{record.link.hex()}"]'
    kind = str(told.get("kind", "expired"))[:32]
    time = str(told.get("time", told["received"]))
    head = f"<{_FACILITY_AUDIT * 8 + severity}>1 {time} {record.author} ringfence - {kind} {data} "
    return head.encode() + json.dumps(told).encode()


def _framed(message: bytes) -> bytes:
    """Octet counting, RFC 6587 section 3.4.1."""
    return str(len(message)).encode() + b" " + message


def _otlp(record: Record) -> dict[str, object]:
    """A LogRecord in OTLP's JSON."""
    told, entry = record.told(), record.entry
    bad = told.get("outcome") in _BAD
    return {
        "timeUnixNano": str(int((entry.wall if entry else record.received_at) * 1e9)),
        "observedTimeUnixNano": str(int(record.received_at * 1e9)),
        "severityNumber": 13 if bad else 9,
        "severityText": "WARN" if bad else "INFO",
        "body": {"stringValue": json.dumps(told)},
        "attributes": [_attribute(f"ringfence.{name}", str(told[name])) for name in _TOLD if told.get(name) not in (None, "")],
    }


_TOLD = ("tenant", "leaf", "author", "kind", "request", "principal", "model", "level", "zone", "region", "outcome", "code")


def _attribute(name: str, value: str) -> dict[str, object]:
    return {"key": name, "value": {"stringValue": value}}

"""The bus over NATS and JetStream. The door to nats-py.

What nats-py does by default and we do not want (each was measured): it gives up after 60 tries, notices a dead line after minutes,
and buffers publishes while disconnected. One wildcard subscription carries all replies of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api
from nats.js import errors as js_errors
from nats.js.client import JetStreamContext

from sync.bus.port import BusUnavailable, Conflict, Handler, Incoming, NobodyThere, StreamFull
from sync.bus.replies import Conversation
from sync.kit import backoff, crashpoints, errors, logs
from sync.wire import packages, subjects

log = logs.get("bus")
MIN_VERSION = (2, 12, 6)
PING_S = 10
RECONNECT_S = 0.5
MAX_RECONNECT_S = 20.0
APPEND_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 3.0
FETCH_S = 2.0
FETCH = 32
ACK_WAIT_S = 30.0
MAX_DELIVERY_BYTES = 128 * 1024 * 1024
_WRONG_LAST_SEQUENCE = 10071
_STREAM_FULL = (10077, 10047)


@dataclass(frozen=True, slots=True)
class Login:
    """Where the broker is, and as whom to log in: by the certificate in a PEM file (key and chain), to servers of those roots.

    A line without TLS goes to a leaf node on this machine alone, by `password`.
    """

    url: str
    user: str
    certificate: Path | None = None
    trusted: Path | None = None
    password: str = ""

    def __repr__(self) -> str:
        return f"Login({self.url}, {self.user})"


class NatsBus:
    """One process's line to a NATS server. `owner` names it; `agent` is the one agent whose rights it has, or "" for a hub's."""

    def __init__(
        self, login: Login, owner: str, *, agent: str = "", on_change: Callable[[bool], None] = lambda _: None
    ) -> None:  # fmt: skip
        self._login = login
        self._agent = agent
        # Another name for each life of a process: a late reply to the last one must not pass for one to this.
        self._life = f"{owner}-{secrets.token_hex(4)}"
        self._on_change = on_change
        self._client = Client()
        self._conversations: dict[str, Conversation] = {}
        self._tokens = itertools.count()
        self._closing = False
        self._tls: ssl.SSLContext | None = None
        self._failed: asyncio.Future[BaseException | None] | None = None
        self._over = asyncio.Event()
        self._linked = False
        self._leaving: asyncio.Task[None] | None = None
        self._pauses = _new_pauses()
        self.slow_consumers = 0

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected)

    async def connect(self) -> None:
        """Tries until the broker is there. Raises Misconfigured where it refuses the login; then `connect` may be called again."""
        options: dict[str, Any] = {
            "servers": [self._login.url],
            "name": self._login.user,
            "inbox_prefix": subjects.inbox(self._agent or self._life),
            "allow_reconnect": True,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_S,
            "reconnect_to_server_handler": self._when_to_reconnect,
            "connect_timeout": 5,
            "ping_interval": PING_S,
            "max_outstanding_pings": 2,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnect,
            "reconnected_cb": self._on_connect,
            "closed_cb": self._on_closed,
        }
        logging.getLogger("asyncio").addFilter(_is_worth_telling)
        if self._login.certificate is not None and self._login.trusted is not None:
            self._tls = _tls(self._login.certificate, self._login.trusted)
            options |= {"tls": self._tls, "tls_handshake_first": True}
        else:
            options |= {"user": self._login.user, "password": self._login.password}
        if self._linked:
            await self._drop()
        self._linked, self._over = False, asyncio.Event()
        for pause in _new_pauses():
            if await self._attempt(options):
                break
            await asyncio.sleep(pause)
        version = self._client.connected_server_version
        if (version.major, version.minor, version.patch) < MIN_VERSION:
            await self._client.close()
            raise errors.Misconfigured(
                f"The broker at {self._login.url} is nats-server {version.major}.{version.minor}.{version.patch}: "
                f"{'.'.join(map(str, MIN_VERSION))} or newer is needed, since older ones let a client take another's name.",
                code="broker_too_old",
            )
        await self._client.subscribe(f"{subjects.replies(self._agent or '*', self._life)}.*", cb=self._on_reply)
        await self._settle()
        self._linked, self._leaving = True, None
        domain = subjects.DOMAIN if self._agent else None
        self._jetstream: JetStreamContext = self._client.jetstream(timeout=APPEND_TIMEOUT_S, domain=domain)
        self._on_change(True)

    async def over(self) -> None:
        """Returns when the broker has cut this process off for good: it does not come back by itself then."""
        await self._over.wait()

    def renewed(self) -> None:
        """Takes the files of the login up again, for the next connection. Raises Misconfigured."""
        if self._tls is not None and self._login.certificate is not None and self._login.trusted is not None:
            _load(self._tls, self._login.certificate, self._login.trusted)

    async def _attempt(self, options: dict[str, Any]) -> bool:
        """Whether a connection was made. Raises Misconfigured where the broker says no.

        nats-py's own tries are not used for the first connection: it asks for ever with a login that is refused, and where a TLS
        handshake fails it waits for ever for the end of a stream that has none (2.16).
        """
        self._client = Client()
        failed: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._failed = failed
        attempt = asyncio.ensure_future(self._client.connect(**options))
        waiting: set[asyncio.Future[Any]] = {attempt, failed}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            error = attempt.exception() if attempt.done() else failed.result()
        finally:
            if not attempt.done():
                attempt.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await attempt
        if error is None:
            return True
        if self._client._transport is not None:
            self._client._transport.close()  # type: ignore[no-untyped-call]  # its own close() may wait for ever, as said
        if _is_refusal(error):
            raise errors.Misconfigured(
                f"The broker at {self._login.url} refused '{self._login.user}'.", code="broker_login_refused"
            ) from error
        if not isinstance(error, nats.errors.Error | OSError | TimeoutError):
            raise error
        return False

    async def publish(self, subject: str, data: bytes) -> None:
        self._check()
        with _wrapped(subject):
            await self._client.publish(subject, data)

    async def subscribe(self, subject: str, handler: Handler) -> None:
        client = self._client

        async def on_message(message: Msg) -> None:
            async def respond(data: bytes) -> None:
                self._check()
                with _wrapped("a reply"):
                    await client.publish(message.reply, data)

            await handler(Incoming(message.subject, message.data, respond))

        with _wrapped(subject):
            await client.subscribe(subject, cb=on_message, pending_bytes_limit=MAX_DELIVERY_BYTES)
            await self._settle()

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        return await (await self.converse(subject, data)).only(subject, timeout_s)

    async def converse(self, subject: str, data: bytes) -> Conversation:
        self._check()
        token = f"{next(self._tokens):x}"
        reply = f"{subjects.replies(subjects.owner_of(subject), self._life)}.{token}"
        conversation = self._conversations[reply] = Conversation(lambda: self._conversations.pop(reply, None))
        try:
            await self._client.publish(subject, data, reply=reply)
        except BaseException as error:
            conversation.close()
            if isinstance(error, (nats.errors.Error, OSError)):
                raise BusUnavailable(f"The broker did not take {subject} ({type(error).__name__}).") from error
            raise
        return conversation

    async def append(self, subject: str, data: bytes, *, expected_last: int) -> int:
        self._check()
        headers = {api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(expected_last)}
        with _wrapped(subject):
            ack = await self._jetstream.publish(subject, data, timeout=APPEND_TIMEOUT_S, headers=headers)
            return int(ack.seq)

    async def last(self, subject: str) -> tuple[int, bytes]:
        self._check()
        try:
            with _wrapped(subject):
                message = await self._jetstream.get_last_msg(subjects.JOURNAL_STREAM, subject, direct=True)
        except _NotFoundError:
            return 0, b""
        return int(message.seq or 0), message.data or b""

    async def consume(self, subject: str, durable: str, take: Callable[[list[bytes]], Awaitable[None]]) -> None:
        subscription: JetStreamContext.PullSubscription | None = None
        of = -1
        while True:
            try:
                # Counted before it is made: where the line goes meanwhile, it is made once more.
                now = self._client.stats["reconnects"]
                if subscription is None or of != now:
                    subscription, of = await self._anew(subject, durable, subscription), now
                messages = await subscription.fetch(FETCH, timeout=FETCH_S)
            except (TimeoutError, nats.errors.TimeoutError):
                continue
            except (nats.errors.Error, js_errors.Error) as error:
                log.warning("consume_interrupted", subject=subject, error=type(error).__name__)
                await asyncio.sleep(RECONNECT_S)
                continue
            try:
                await take([message.data for message in messages])
            except Exception:
                # Given back at once: the ones behind them would otherwise come first, and look like a gap.
                with contextlib.suppress(nats.errors.Error, OSError):
                    for message in messages:
                        await message.nak()
                raise
            crashpoints.reach("consume.taken")
            for message in messages:
                await message.ack()

    async def _anew(
        self, subject: str, durable: str, before: JetStreamContext.PullSubscription | None
    ) -> JetStreamContext.PullSubscription:
        """Return a subscription of this consumer that begins behind what was taken without a hole.

        What a former life of it had in hand when it ended, or when the line went, the broker would deliver after ACK_WAIT_S
        only, and what was stored later before it: to the ledger a gap that is none. So the consumer is made again. What
        comes twice by that is known by its number.
        """
        if before is not None:
            with contextlib.suppress(nats.errors.Error):
                await before.unsubscribe()
        since = 1
        with contextlib.suppress(js_errors.NotFoundError):
            info = await self._jetstream.consumer_info(subjects.JOURNAL_STREAM, durable)
            since = info.ack_floor.stream_seq + 1 if info.ack_floor else 1
            await self._jetstream.delete_consumer(subjects.JOURNAL_STREAM, durable)
        config = api.ConsumerConfig(
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=64,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=since,
        )
        return await self._jetstream.pull_subscribe(subject, durable=durable, stream=subjects.JOURNAL_STREAM, config=config)

    async def put(self, bucket: str, key: str, data: bytes) -> None:
        self._check()
        with _wrapped(key):
            await self._jetstream.publish(f"$KV.{bucket}.{key}", data, timeout=APPEND_TIMEOUT_S)

    async def get(self, bucket: str, key: str) -> bytes | None:
        self._check()
        try:
            with _wrapped(key):
                message = await self._jetstream.get_last_msg(f"KV_{bucket}", f"$KV.{bucket}.{key}", direct=True)
        except _NotFoundError:
            return None
        return bytes(message.data) if message.data is not None else None

    async def entries(self, bucket: str) -> AsyncIterator[tuple[str, bytes]]:
        self._check()
        sequence = 0
        while True:
            try:
                with _wrapped(bucket):
                    message = await self._jetstream.get_msg(
                        f"KV_{bucket}", seq=sequence + 1, subject=f"$KV.{bucket}.>", direct=True, next=True
                    )  # fmt: skip
            except _NotFoundError:
                return
            sequence = int(message.seq or 0)
            yield (message.subject or "").removeprefix(f"$KV.{bucket}."), bytes(message.data or b"")

    async def forget_taken(self, durable: str) -> None:
        self._check()
        with _wrapped(durable):
            info = await self._jetstream.consumer_info(subjects.JOURNAL_STREAM, durable)
            floor = info.ack_floor.stream_seq if info.ack_floor else 0
            if floor:
                await self._jetstream.purge_stream(subjects.JOURNAL_STREAM, seq=floor + 1)

    async def provision(self, *, journal_max_bytes: int, journal_max_age_s: float, replicas: int = 1) -> None:
        """Makes the streams that agents and hubs share, or brings them up to date. Only a hub may."""
        journal = api.StreamConfig(
            name=subjects.JOURNAL_STREAM,
            subjects=[subjects.JOURNAL_ALL],
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.NEW,
            max_bytes=journal_max_bytes,
            max_age=journal_max_age_s,
            num_replicas=replicas,
            allow_direct=True,
            deny_delete=True,
        )
        bundles = api.StreamConfig(
            name=f"KV_{subjects.BUNDLE_BUCKET}",
            subjects=[f"$KV.{subjects.BUNDLE_BUCKET}.>"],
            storage=api.StorageType.FILE,
            max_msgs_per_subject=1,
            num_replicas=replicas,
            allow_direct=True,
            allow_rollup_hdrs=True,
            deny_delete=True,
        )
        models = bundles.evolve(name=f"KV_{packages.BUCKET}", subjects=[f"$KV.{packages.BUCKET}.>"])
        for config in (journal, bundles, models):
            with _wrapped(config.name or ""):
                try:
                    await self._jetstream.stream_info(config.name or "")
                except js_errors.NotFoundError:
                    await self._jetstream.add_stream(config)

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        await self._drop()

    async def _drop(self) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.close(), CLOSE_TIMEOUT_S)

    async def _settle(self) -> None:
        """Returns when the server knows of every subscription made so far.

        nats-py writes a flush's PING at once, ahead of commands that still wait: only the second one is behind them.
        """
        await self._client.flush(5)
        await self._client.flush(5)

    def _check(self) -> None:
        if not self.connected:
            raise BusUnavailable("The line to the broker is down.")

    async def _on_reply(self, message: Msg) -> None:
        # By the whole subject: an agent can only publish under its own name, and so only answers what it was asked.
        conversation = self._conversations.get(message.subject)
        if conversation is None:
            return
        if message.headers and message.headers.get(api.Header.STATUS.value) == "503":
            conversation.offer(NobodyThere("Nobody listens there."))
        else:
            conversation.offer(message.data)

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self.slow_consumers += 1
        if not self._linked and self._failed is not None and not self._failed.done():
            self._failed.set_result(error)
        elif _is_refusal(error) and self._leaving is None:
            # Left alone it would ask again for ever; what to do about a refusal is for whoever connects to say.
            self._leaving = asyncio.create_task(self._client.close(), name="bus cut off")
        if not self._closing:
            log.warning("bus_error", error=type(error).__name__, detail=str(error)[:200])

    async def _on_disconnect(self) -> None:
        if not self._closing:
            log.warning("bus_disconnected", url=self._login.url)
            self._on_change(False)

    async def _on_closed(self) -> None:
        self._over.set()
        if not self._closing:
            log.warning("bus_cut_off", url=self._login.url)
            self._on_change(False)

    def _when_to_reconnect(self, servers: list[Any], _: object) -> tuple[Any, float]:
        """Waits that grow and are drawn by lot: a thousand sites whose line came back at once do not come at once."""
        return servers[0], next(self._pauses)

    async def _on_connect(self) -> None:
        self._pauses = _new_pauses()
        log.info("bus_reconnected", url=self._login.url)
        self._on_change(True)


def _new_pauses() -> Iterator[float]:
    return backoff.jittered(first_s=RECONNECT_S, most_s=MAX_RECONNECT_S)


def _tls(certificate: Path, trusted: Path) -> ssl.SSLContext:
    """TLS 1.3 with this certificate, to servers of these roots alone. Raises Misconfigured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load(context, certificate, trusted)
    return context


def _load(context: ssl.SSLContext, certificate: Path, trusted: Path) -> None:
    try:
        context.load_cert_chain(certificate)
        context.load_verify_locations(trusted)
    except (OSError, ssl.SSLError) as error:
        raise errors.Misconfigured(
            f"The certificate {certificate}, or the roots {trusted}, cannot be read ({type(error).__name__}).",
            code="bad_certificate",
        ) from error


def _is_refusal(error: BaseException) -> bool:
    """Whether the broker said no, rather than nothing. What TLS says is in OpenSSL's words."""
    said = str(error).lower()
    return "authorization" in said or (isinstance(error, ssl.SSLError) and "alert" in said)


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """asyncio warns at each end of a TLS line that nats-py's protocol answers a call for which there is no use."""
    return "returning true from eof_received()" not in record.getMessage()


class _NotFoundError(errors.Refused):
    """No such message."""


@contextlib.contextmanager
def _wrapped(what: str) -> Iterator[None]:
    """nats-py's errors as the port's own."""
    try:
        yield
    except js_errors.NotFoundError as error:
        raise _NotFoundError(what) from error
    except js_errors.APIError as error:
        if error.err_code == _WRONG_LAST_SEQUENCE:
            raise Conflict(f"The last message on {what} is another one.") from error
        if error.err_code in _STREAM_FULL:
            raise StreamFull(f"The stream of {what} is full.", retry_after_s=5) from error
        raise BusUnavailable(f"The broker refused {what}: {error.description}.") from error
    except (nats.errors.Error, js_errors.Error, TimeoutError, OSError) as error:
        raise BusUnavailable(f"The broker did not answer for {what} ({type(error).__name__}).") from error

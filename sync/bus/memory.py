"""The bus inside one process: for simulations, property tests and a hub that serves its own site."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable

from sync.bus.port import BusUnavailable, Conflict, Handler, Incoming, NobodyThere
from sync.bus.replies import Conversation


class Exchange:
    """What the buses of one test or process share; stands where the broker stands."""

    def __init__(self) -> None:
        self.handlers: list[tuple[str, MemoryBus, Handler]] = []
        self.stored: list[tuple[str, bytes]] = []
        self.buckets: dict[tuple[str, str], bytes] = {}
        self.taken: dict[str, int] = defaultdict(int)
        self.grew = asyncio.Condition()

    async def deliver(self, subject: str, data: bytes, respond: Callable[[bytes], Awaitable[None]]) -> int:
        """Hands a frame to everybody who listens; how many did."""
        listening = [handler for pattern, _, handler in list(self.handlers) if matches(pattern, subject)]
        for handler in listening:
            await handler(Incoming(subject, data, respond))
        return len(listening)


class MemoryBus:
    """One participant's line to an exchange. `connected` can be cut and mended."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._tokens = itertools.count()
        self.connected = True

    async def publish(self, subject: str, data: bytes) -> None:
        self._check()
        await self._exchange.deliver(subject, data, _nowhere)

    async def subscribe(self, subject: str, handler: Handler) -> None:
        self._exchange.handlers.append((subject, self, handler))

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        return await (await self.converse(subject, data)).only(subject, timeout_s)

    async def converse(self, subject: str, data: bytes) -> Conversation:
        self._check()
        conversation = Conversation(lambda: None)

        async def respond(reply: bytes) -> None:
            conversation.offer(reply)

        if not await self._exchange.deliver(subject, data, respond):
            conversation.offer(NobodyThere(f"Nobody listens on {subject}."))
        return conversation

    async def append(self, subject: str, data: bytes, *, expected_last: int) -> int:
        self._check()
        last, _ = await self.last(subject)
        if last != expected_last:
            raise Conflict(f"The last message on {subject} is {last}, not {expected_last}.")
        async with self._exchange.grew:
            self._exchange.stored.append((subject, data))
            self._exchange.grew.notify_all()
            return len(self._exchange.stored)

    async def last(self, subject: str) -> tuple[int, bytes]:
        self._check()
        found = [(n, data) for n, (at, data) in enumerate(self._exchange.stored, 1) if at == subject]
        return found[-1] if found else (0, b"")

    async def consume(self, subject: str, durable: str, take: Callable[[list[bytes]], Awaitable[None]]) -> None:
        exchange = self._exchange
        while True:
            async with exchange.grew:
                await exchange.grew.wait_for(lambda: exchange.taken[durable] < len(exchange.stored))
            at, data = exchange.stored[exchange.taken[durable]]
            if matches(subject, at):
                try:
                    await take([data])
                except Exception:
                    await asyncio.sleep(0)
                    continue
            exchange.taken[durable] += 1

    async def put(self, bucket: str, key: str, data: bytes) -> None:
        self._check()
        self._exchange.buckets[bucket, key] = data

    async def get(self, bucket: str, key: str) -> bytes | None:
        self._check()
        return self._exchange.buckets.get((bucket, key))

    async def entries(self, bucket: str) -> AsyncIterator[tuple[str, bytes]]:
        self._check()
        for (at, key), data in list(self._exchange.buckets.items()):
            if at == bucket:
                yield key, data

    async def forget_taken(self, durable: str) -> None:
        self._check()
        taken = self._exchange.taken[durable]
        self._exchange.stored[:taken] = [("", b"")] * taken

    async def close(self) -> None:
        self.connected = False
        self._exchange.handlers = [row for row in self._exchange.handlers if row[1] is not self]

    def _check(self) -> None:
        if not self.connected:
            raise BusUnavailable("The line to the broker is down.")


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject fits a pattern in which `*` stands for one token."""
    wanted, given = pattern.split("."), subject.split(".")
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


async def _nowhere(_: bytes) -> None:
    """The answer to a frame that asked for none."""

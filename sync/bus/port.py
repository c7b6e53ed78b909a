"""The bus as the rest of the house sees it: bytes to subjects, and what may go wrong.

Only `append` is durable. `publish` may be lost, and so may a request: callers act on replies, never on having sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sync.kit import errors

CONVERSATION_LIMIT = 4096
"""Replies that may wait for a slow reader before its conversation is ended."""


class BusUnavailable(errors.Retryable):
    """The broker is not reachable, or did not answer in time."""

    code = "broker_unavailable"


class NobodyThere(errors.Retryable):
    """Nobody listens on the subject: said at once, not after a time-out."""

    code = "no_responder"


class Overrun(errors.Refused):
    """The reader of a conversation was too slow, and replies would have been lost."""

    code = "slow_reader"


class Conflict(errors.Refused):
    """The subject's last message is not the expected one: somebody (or an earlier try) appended before."""

    code = "append_conflict"


class StreamFull(errors.Retryable):
    """The stream is at its cap: what it holds has to be taken first."""

    code = "stream_full"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A frame that came, and the way to answer it (any number of times)."""

    subject: str
    data: bytes
    respond: Callable[[bytes], Awaitable[None]]


Handler = Callable[[Incoming], Awaitable[None]]
"""Called one at a time for each subscription: it only starts work, and never waits for it."""


class Conversation(Protocol):
    """The replies to one frame."""

    async def next(self, timeout_s: float) -> bytes | None:
        """The next reply, or None where none came in time. Raises NobodyThere or Overrun."""
        ...

    def close(self) -> None:
        """Takes no more replies."""
        ...


class Bus(Protocol):
    """One process's line to the others."""

    @property
    def connected(self) -> bool: ...

    async def publish(self, subject: str, data: bytes) -> None:
        """Sends, without knowing whether anybody got it. Raises BusUnavailable while the line is down."""
        ...

    async def subscribe(self, subject: str, handler: Handler) -> None:
        """Hands each frame on the subject (`*` stands for one token) to the handler, until the bus closes."""
        ...

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        """The first reply. Raises NobodyThere or BusUnavailable."""
        ...

    async def converse(self, subject: str, data: bytes) -> Conversation:
        """All replies, in order, until the caller closes it, which it must."""
        ...

    async def append(self, subject: str, data: bytes, *, expected_last: int) -> int:
        """Stores durably where the subject's last message has the expected number (0: none); the new number.

        Raises Conflict, StreamFull or BusUnavailable; after the last it is unknown whether it was stored.
        """
        ...

    async def last(self, subject: str) -> tuple[int, bytes]:
        """The number and bytes of the subject's last stored message, or (0, b"")."""
        ...

    async def consume(self, subject: str, durable: str, take: Callable[[list[bytes]], Awaitable[None]]) -> None:
        """Hands the stored messages to `take`, some at a time, in order and again until it returns. Runs until cancelled."""
        ...

    async def put(self, bucket: str, key: str, data: bytes) -> None:
        """Stores under the key, durably."""
        ...

    async def get(self, bucket: str, key: str) -> bytes | None:
        """What was last put under the key."""
        ...

    def entries(self, bucket: str) -> AsyncIterator[tuple[str, bytes]]:
        """Every key of a bucket, and what was last put under it."""
        ...

    async def forget_taken(self, durable: str) -> None:
        """Has the broker forget the stored messages that this consumer has taken."""
        ...

    async def close(self) -> None:
        """Leaves, bounded in time."""
        ...

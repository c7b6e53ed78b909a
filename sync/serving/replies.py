"""The replies to one request: one reader and one sender, whoever asks whom.

A hub reads an agent's replies, a site the hub's, and a site those of its own runner; agents and hubs send them.

Invariants, each with a test of its words:
- an answer with a hole, a piece too many or another text than was sent is never taken for a whole one;
- whoever is slow is waited for, whoever is gone is noticed within seconds;
- what was asked for and is not wanted any more is cancelled where it is at work;
- no more of a stream is on its way than its reader has granted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from sync.bus.port import Bus, BusUnavailable, Conversation, NobodyThere, Overrun
from sync.kit import errors
from sync.kit.clock import Clock
from sync.kit.ids import RequestId
from sync.wire import codec
from sync.wire.messages import MAX_REPLY, Accepted, Cancel, Chunk, Credit, Done, Failed, Ping, Placed, Pong
from sync.wire.session import HubSession
from sync.wire.types import MAX_SENTENCE

STALL_S = 0.7
"""Seconds without a reply after which the other side is asked whether it is there: longer than most first tokens take."""
PROBE_S = 1.0
"""Seconds for its answer: a loop that does not come round for a second is as good as gone."""
MAX_SILENT_PROBES = 2
"""Probes in a row without an answer after which it counts as gone: one may be lost with a reconnection."""
WINDOW = 256 * 1024
"""Bytes of a stream on their way to a reader: a second of a fast model's text, and all that a slow client costs here."""
MAX_ANSWER = MAX_REPLY
"""Bytes of a whole stream: what an answer in one frame may have, too."""
CHUNK_CHARACTERS = 16_384
STUCK_S = 60.0
"""Seconds that a sender waits for a reader that grants nothing: twice what one write to a slow client may take."""

Message = Accepted | Placed | Chunk | Done | Failed
MESSAGES: tuple[type[Message], ...] = (Accepted, Placed, Chunk, Done, Failed)
Reply = Callable[[codec.Message], Awaitable[None]]


class Lost(errors.Retryable):
    """The other side went away while it had the request. `broken`: it is there, and what it says cannot be read."""

    code = "agent_lost"

    def __init__(self, sentence: str, *, code: str | None = None, broken: bool = False) -> None:
        super().__init__(sentence, code=code)
        self.broken = broken


class RunFailed(errors.RingfenceError):
    """The other side said why it did not do it. `retryable`: another one may be tried. `said`: the code in its own words."""

    def __init__(self, failed: Failed, code: str) -> None:
        # Its sentence goes with a code that it may say; what another process says is printed as text and no more.
        told = failed.sentence if code == failed.code else "The agent could not serve the request: its log says why."
        super().__init__("".join(c if c.isprintable() else " " for c in told), code=code)
        self.said = failed.code
        self.retryable = failed.retryable
        self.retry_after_s = failed.retry_after_s


class DeadlinePassed(errors.Retryable):
    """The request's time is over."""

    code = "deadline_exceeded"


class AnswerTooLarge(errors.Refused):
    """The answer is larger than any may be."""

    code = "answer_too_large"


class SlowReader(errors.Refused):
    """Nobody has read the stream for so long that it is ended."""

    code = "slow_reader"


class Source(Protocol):
    """Where the replies to one request come from. `name` and `code` are for the sentence that says that it is gone."""

    name: str
    code: str

    async def receive(self, timeout_s: float) -> Message | None:
        """Return the next reply, or None where none came in time. Raises NobodyThere, Overrun or Corrupt."""
        ...

    async def is_working(self) -> bool:
        """Return whether it says that it has the request. Raises NobodyThere."""
        ...

    async def grant(self, upto: int) -> None:
        """Let it send `upto` bytes and a window more."""
        ...

    async def cancel(self) -> None:
        """Have it stop. Where that cannot be said now, its own deadline ends it."""
        ...

    def close(self) -> None:
        """Take no more replies."""
        ...


class BusSource:
    """Replies over the bus, under the session in which the request was sealed. `control`: where it is asked and told more."""

    def __init__(
        self, bus: Bus, session: HubSession, conversation: Conversation, *, request: RequestId, control: str, name: str, code: str
    ) -> None:
        self.name = name
        self.code = code
        self._bus = bus
        self._session = session
        self._conversation = conversation
        self._request = request
        self._control = control

    async def receive(self, timeout_s: float) -> Message | None:
        frame = await self._conversation.next(timeout_s)
        return None if frame is None else self._session.open(frame, *MESSAGES)

    async def is_working(self) -> bool:
        try:
            reply = await self._bus.request(self._control, codec.encode(Ping(self._request)), timeout_s=PROBE_S)
            return codec.decode(reply, Pong).working
        except (BusUnavailable, errors.Corrupt):
            return False

    async def grant(self, upto: int) -> None:
        await self._say(Credit(self._request, upto))

    async def cancel(self) -> None:
        await self._say(Cancel(self._request))

    def close(self) -> None:
        self._conversation.close()

    async def _say(self, message: codec.Message) -> None:
        # Where the line is down, that shows by itself: the next reply does not come, and the sender has a deadline too.
        with contextlib.suppress(BusUnavailable):
            await self._bus.publish(self._control, codec.encode(message))


class Replies:
    """Reads the replies to one request in order. `close` it, however it ends: what is still at work is cancelled.

    deadline: when the request's time is over, in the clock's monotonic seconds.
    window: bytes on their way that the request has asked to be kept to; 0 for a sender that knows no window.
    summed: whether the sender says a digest of the answer (see `Done.digest`): then one without it is not whole.
    code_of: what a client is told where the other side fails with a code: it does not choose the client's status.
    places: whether the other side is the hub, which says where a request runs; an agent does not.
    """

    def __init__(
        self,
        source: Source,
        *,
        request: RequestId,
        deadline: float,
        clock: Clock,
        code_of: Callable[[str], str],
        window: int = 0,
        summed: bool = True,
        places: bool = False,
    ) -> None:
        self._places = places
        self._source = source
        self._request = request
        self._deadline = deadline
        self._clock = clock
        self._code_of = code_of
        self._window = window
        self._summed = summed
        self._sum = Sum()
        self._chunks = 0
        self._taken = 0
        self._granted = 0
        self._ended = False

    async def next(self) -> Placed | Chunk | Done:
        """Return the next reply that says something. Raises Lost, RunFailed, DeadlinePassed or AnswerTooLarge."""
        await self._grant(least=max(1, self._window // 2))
        try:
            while True:
                message = await self._received()
                if message.request != self._request:
                    raise errors.Corrupt("A reply to another request came.")
                if isinstance(message, Placed) and not self._places:
                    raise errors.Corrupt("An agent says where its request runs, which is the hub's to say.")
                if not isinstance(message, Accepted):
                    return self._checked(message)
        except NobodyThere as error:
            self._ended = True
            raise self._lost("is not there") from error
        except Overrun as error:
            raise self._lost("sent more than was asked for") from error
        except errors.Corrupt as error:
            raise self._lost("answers what cannot be read", broken=True) from error

    async def close(self) -> None:
        """Cancel what is still at work, and read no more."""
        self._source.close()
        if not self._ended:
            self._ended = True
            await self._source.cancel()

    def _checked(self, message: Placed | Chunk | Done | Failed) -> Placed | Chunk | Done:
        """Return the message where it is the one that follows. Raises Lost, RunFailed or AnswerTooLarge."""
        match message:
            case Chunk():
                self._check_chunk(message)
            case Done():
                self._ended = True
                if message.chunks != self._chunks:
                    raise self._lost("ended its answer, and the last of it was lost on the way")
                if message.digest != self._sum.of(message.result) and (message.digest or self._summed):
                    raise self._lost("sent another answer than came", broken=True)
            case Failed():
                self._ended = True
                raise RunFailed(message, self._code_of(message.code))
        return message

    def _check_chunk(self, chunk: Chunk) -> None:
        if chunk.sequence != self._chunks:
            raise self._lost("sent a piece of its answer that was lost on the way")
        self._chunks += 1
        self._taken += self._sum.add(chunk)
        if self._taken > MAX_ANSWER:
            raise AnswerTooLarge(f"The answer is longer than {MAX_ANSWER >> 20} MiB: ask for less of it (max_tokens).")

    async def _received(self) -> Message:
        """Return the next reply, however slow the other side is, as long as it is there."""
        silent = 0
        while True:
            left = self._deadline - self._clock.monotonic()
            if left <= 0:
                raise DeadlinePassed("The request took longer than its time allows.")
            message = await self._source.receive(min(STALL_S, left))
            if message is not None:
                return message
            if await self._source.is_working():
                silent = 0
                # A grant may have been lost with a reconnection; without it the two would wait for each other.
                await self._grant(least=0)
                continue
            silent += 1
            if silent >= MAX_SILENT_PROBES:
                raise self._lost("no longer answers")

    async def _grant(self, *, least: int) -> None:
        if self._window and self._taken - self._granted >= least:
            self._granted = self._taken
            await self._source.grant(self._taken)

    def _lost(self, why: str, *, broken: bool = False) -> Lost:
        return Lost(f"{self._source.name} {why}.", code=self._source.code, broken=broken)


class Sum:
    """The running digest of an answer: SHA-256 over each piece as msgpack of (choice, text, scores), then the result."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"ringfence/v1/answer|")

    def add(self, chunk: Chunk) -> int:
        """Add a piece; return how many bytes it has."""
        data = codec.pack((chunk.choice, chunk.text, chunk.scores))
        self._hash.update(data)
        return len(data)

    def of(self, result: bytes) -> bytes:
        """Return the digest of the pieces so far and this result."""
        whole = self._hash.copy()
        whole.update(result)
        return whole.digest()


class Sender:
    """Sends the replies to one request: numbers its pieces, sums them up, and keeps to the reader's window.

    window: bytes that may be on their way without a grant; 0 for no limit.
    summed: whether the reader knows the digest in `Done`.
    """

    def __init__(self, request: RequestId, reply: Reply, *, window: int = 0, summed: bool = True) -> None:
        self._request = request
        self._reply = reply
        self._window = window
        self._summed = summed
        self._sum = Sum()
        self._granted = 0
        self._more = asyncio.Event()
        self.chunks = 0
        self.sent = 0
        """Bytes of pieces that went out."""

    async def piece(self, text: str, choice: int = 0, scores: bytes = b"") -> None:
        """Send a piece, a long one in several. Waits for the reader. Raises SlowReader, or what the reply raises."""
        for first in range(0, max(1, len(text)), CHUNK_CHARACTERS):
            await self._room()
            chunk = Chunk(self._request, self.chunks, text[first : first + CHUNK_CHARACTERS], choice, scores)
            scores = b""
            self.chunks += 1
            self.sent += self._sum.add(chunk)
            await self._reply(chunk)

    async def done(
        self,
        result: bytes,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        finish: str,
        cached: bool,
        compute_ms: float,
        estimated: bool = False,
    ) -> None:
        """Send the end of an answer that went well."""
        await self._reply(
            Done(
                request=self._request,
                result=result,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                finish=finish,
                cached=cached,
                chunks=self.chunks,
                compute_ms=compute_ms,
                digest=self._sum.of(result) if self._summed else b"",
                # Like the digest: a reader of version 0.1 knows neither.
                estimated=estimated and self._summed,
            )
        )

    async def say(self, message: codec.Message) -> None:
        """Send a message that is not part of the answer."""
        await self._reply(message)

    async def failed(self, error: errors.RingfenceError, *, retryable: bool, retry_after_s: float = 0.0) -> None:
        """Send why there is no answer."""
        # In bytes, since the frame has so many: a sentence that does not fit would be no answer at all.
        sentence = str(error).encode("utf-8", "replace")[:MAX_SENTENCE].decode("utf-8", "ignore")
        await self._reply(Failed(self._request, error.code[:64], sentence, retryable, retry_after_s))

    def granted(self, upto: int) -> None:
        """Take a grant of the reader. One that is older than another changes nothing."""
        if upto > self._granted:
            self._granted = min(upto, self.sent)
            self._more.set()

    async def _room(self) -> None:
        while self._window and self.sent - self._granted >= self._window:
            self._more.clear()
            try:
                async with asyncio.timeout(STUCK_S):
                    await self._more.wait()
            except TimeoutError as error:
                raise SlowReader(f"The answer was not read for {STUCK_S:.0f} s.") from error

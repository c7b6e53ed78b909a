"""One request at one agent: sealed, sent, and its replies read in order, until done, failed or found dead.

An agent that is slow is waited for; one that is gone is noticed within seconds: when nothing comes for a while, the agent is asked
whether it is there, and the broker says at once when nobody listens.
"""

from __future__ import annotations

from dataclasses import dataclass

from sync.bus.port import Bus, BusUnavailable, Conversation, NobodyThere
from sync.kit import errors
from sync.kit.clock import Clock
from sync.kit.ids import AgentId
from sync.wire import codec, subjects
from sync.wire.messages import Accepted, Cancel, Chunk, Done, Failed, Ping, Pong, Reply, Run
from sync.wire.session import HubSession

STALL_S = 0.7
"""Seconds without a reply after which the agent is asked whether it is there."""
PROBE_S = 1.0
MAX_SILENT_PROBES = 2
REPLIES: tuple[type[Reply], ...] = (Accepted, Chunk, Done, Failed)


class AgentLost(errors.Retryable):
    """The agent went away while it had the request."""

    code = "agent_lost"


class AgentFailed(errors.RingfenceError):
    """The agent said why it did not do it. `retryable`: another one may be tried."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.sentence, code=failed.code)
        self.retryable = failed.retryable
        self.retry_after_s = failed.retry_after_s


class DeadlinePassed(errors.Retryable):
    """The request's time is over."""

    code = "deadline_exceeded"


@dataclass(frozen=True, slots=True)
class Line:
    """What a conversation needs of the process."""

    bus: Bus
    clock: Clock


class Attempt:
    """One request at one agent. `close` it, however it ends: what is still at work there is cancelled."""

    def __init__(self, line: Line, agent: AgentId, session: HubSession, run: Run) -> None:
        self._line = line
        self._agent = agent
        self._session = session
        self._run = run
        self._conversation: Conversation | None = None
        self._chunks = 0
        self._ended = False

    async def next(self) -> Chunk | Done:
        """The next piece, or the end. Raises AgentLost, AgentFailed, DeadlinePassed or what the bus raises."""
        try:
            if self._conversation is None:
                frame = self._session.seal(self._run)
                self._conversation = await self._line.bus.converse(subjects.run(self._agent), frame)
            while True:
                frame = await self._frame(self._conversation)
                message: Reply = self._session.open(frame, *REPLIES)
                if not isinstance(message, Accepted):
                    return self._checked(message)
        except NobodyThere as error:
            self._ended = True
            raise AgentLost(f"The agent '{self._agent}' is not there.") from error

    async def close(self) -> None:
        if self._conversation is None:
            return
        self._conversation.close()
        if not self._ended and self._line.bus.connected:
            self._ended = True
            await self._line.bus.publish(subjects.control(self._agent), codec.encode(Cancel(self._run.request)))

    def _checked(self, message: Chunk | Done | Failed) -> Chunk | Done:
        """The message, where it is the one that follows: a lost piece must not pass unseen."""
        match message:
            case Chunk():
                if message.sequence != self._chunks:
                    raise AgentLost(f"A piece of the answer of '{self._agent}' was lost on the way.")
                self._chunks += 1
                return message
            case Done():
                self._ended = True
                if message.chunks != self._chunks:
                    raise AgentLost(f"The last piece of the answer of '{self._agent}' was lost on the way.")
                return message
            case Failed():
                self._ended = True
                raise AgentFailed(message)

    async def _frame(self, conversation: Conversation) -> bytes:
        """The next frame, however slow the agent is, as long as it is there."""
        silent = 0
        while True:
            left = self._run.deadline - self._line.clock.wall()
            if left <= 0:
                raise DeadlinePassed("The request took longer than its time allows.")
            frame = await conversation.next(min(STALL_S, left))
            if frame is not None:
                return frame
            if await self._is_working():
                silent = 0
                continue
            silent += 1
            if silent >= MAX_SILENT_PROBES:
                raise AgentLost(f"The agent '{self._agent}' no longer answers.")

    async def _is_working(self) -> bool:
        """Whether the agent says that it has the request. Raises AgentLost where nobody is there."""
        ping = codec.encode(Ping(self._run.request))
        try:
            reply = await self._line.bus.request(subjects.control(self._agent), ping, timeout_s=PROBE_S)
            return codec.decode(reply, Pong).working
        except NobodyThere as error:
            self._ended = True
            raise AgentLost(f"The agent '{self._agent}' went away.") from error
        except BusUnavailable:
            return False

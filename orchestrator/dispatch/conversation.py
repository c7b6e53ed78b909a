"""One request at one agent: sealed, sent, and its replies read in order, until done, failed or found dead.

An agent that is slow is waited for; one that is gone is noticed within seconds: when nothing comes for a while, the agent is asked
whether it is there, and the broker says at once when nobody listens.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sync.bus.port import Bus, BusUnavailable, Conversation, NobodyThere
from sync.kit import errors
from sync.kit.clock import Clock
from sync.kit.ids import AgentId
from sync.wire import codec, subjects
from sync.wire.messages import Accepted, Cancel, Chunk, Done, Failed, Ping, Pong, Run
from sync.wire.session import HubSession

STALL_S = 0.7
"""Seconds without a reply after which the agent is asked whether it is there."""
PROBE_S = 1.0
MAX_SILENT_PROBES = 2


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


async def hold(line: Line, agent: AgentId, session: HubSession, run: Run) -> AsyncGenerator[Chunk | Done]:
    """The chunks in order, then the end. Raises AgentLost, AgentFailed, DeadlinePassed or what the bus raises.

    Leaving early, for whatever reason, cancels the request at the agent.
    """
    ended = False
    try:
        async with line.bus.converse(subjects.run(agent), session.seal(run)) as conversation:
            expected = 0
            while True:
                frame = await _next(line, agent, conversation, run)
                match session.open(frame, Accepted, Chunk, Done, Failed):
                    case Accepted():
                        continue
                    case Chunk() as chunk:
                        if chunk.sequence != expected:
                            raise AgentLost(f"A piece of the answer of '{agent}' was lost on the way.")
                        expected += 1
                        yield chunk
                    case Done() as done:
                        ended = True
                        if done.chunks != expected:
                            raise AgentLost(f"The last piece of the answer of '{agent}' was lost on the way.")
                        yield done
                        return
                    case Failed() as failed:
                        ended = True
                        raise AgentFailed(failed)
    except NobodyThere as error:
        ended = True
        raise AgentLost(f"The agent '{agent}' is not there.") from error
    finally:
        if not ended and line.bus.connected:
            await line.bus.publish(subjects.control(agent), codec.encode(Cancel(run.request)))


async def _next(line: Line, agent: AgentId, conversation: Conversation, run: Run) -> bytes:
    silent = 0
    while True:
        left = run.deadline - line.clock.wall()
        if left <= 0:
            raise DeadlinePassed("The request took longer than its time allows.")
        frame = await conversation.next(min(STALL_S, left))
        if frame is not None:
            return frame
        if await _working(line, agent, run):
            silent = 0
            continue
        silent += 1
        if silent >= MAX_SILENT_PROBES:
            raise AgentLost(f"The agent '{agent}' no longer answers.")


async def _working(line: Line, agent: AgentId, run: Run) -> bool:
    """Whether the agent says that it has the request. Raises AgentLost where nobody is there, or it does not know it."""
    try:
        reply = await line.bus.request(subjects.control(agent), codec.encode(Ping(run.request)), timeout_s=PROBE_S)
        return codec.decode(reply, Pong).working
    except NobodyThere as error:
        raise AgentLost(f"The agent '{agent}' went away.") from error
    except BusUnavailable:
        return False

"""What comes from hubs: opened, checked for form, and handed on. Never waits: the subscription brings one frame at a time.

Invariants, each with a test of its words:
- an agent that takes no new work says so at once, for the hub to try the next one;
- a request that is at work goes on, however often it is delivered.
"""

from __future__ import annotations

from edge_agent.release.orders import Orders
from edge_agent.work.eraser import Eraser
from edge_agent.work.runner import Runner
from sync.bus.port import Bus, Incoming
from sync.kit import errors, logs
from sync.kit.ids import AgentId
from sync.serving.replies import Reply
from sync.wire import codec, subjects
from sync.wire.messages import DRAINING, Cancel, Credit, Erase, Failed, Ping, Pong, Run, Upgrade
from sync.wire.session import AgentSession, AgentSessions

log = logs.get("intake")
RETRY_AFTER_S = 1.0
"""For the client where no other agent is there: a restart is over about then."""
_CONTROLS: tuple[type[Ping | Cancel | Credit | Erase | Upgrade], ...] = (Ping, Cancel, Credit, Erase, Upgrade)


class Intake:
    """Listens for one agent."""

    def __init__(self, bus: Bus, me: AgentId, sessions: AgentSessions, runner: Runner, eraser: Eraser, orders: Orders) -> None:
        self._bus = bus
        self._me = me
        self._sessions = sessions
        self._runner = runner
        self._eraser = eraser
        self._orders = orders
        self.accepting = True
        """Whether new runs are begun; where not, each is answered with the code DRAINING."""

    async def listen(self) -> None:
        await self._bus.subscribe(subjects.run(self._me), self._on_run)
        await self._bus.subscribe(subjects.control(self._me), self._on_control)

    async def _on_run(self, incoming: Incoming) -> None:
        try:
            session, run = self._sessions.open(incoming.data, Run)
        except errors.Corrupt as error:
            log.error("frame_refused", code=error.code, detail=str(error))
            return
        reply = _sealing(session, incoming)
        if self.accepting:
            self._runner.start(run, reply)
        elif run.request not in self._runner.at_work:
            await _say_draining(run, reply)

    async def _on_control(self, incoming: Incoming) -> None:
        try:
            match codec.decode(incoming.data, *_CONTROLS):
                case Ping(request):
                    await incoming.respond(codec.encode(Pong(request in self._runner.at_work)))
                case Cancel(request):
                    self._runner.cancel(request)
                case Credit(request, upto):
                    self._runner.granted(request, upto)
                case Erase() as order:
                    await incoming.respond(codec.encode(await self._eraser.erase(order)))
                case Upgrade() as order:
                    await incoming.respond(codec.encode(self._orders.take(order)))
        except errors.RingfenceError as error:
            log.warning("control_refused", code=error.code, detail=str(error))


async def _say_draining(run: Run, reply: Reply) -> None:
    """Answer a new run that is not begun. No record is due: nothing was run, and the hub has recorded that it tried."""
    sentence = "This agent is being drained or stopped: it takes no new work."
    try:
        await reply(Failed(run.request, DRAINING, sentence, retryable=True, retry_after_s=RETRY_AFTER_S))
    except errors.RingfenceError as error:
        log.warning("reply_failed", request=run.request, code=error.code)


def _sealing(session: AgentSession, incoming: Incoming) -> Reply:
    """Seals each reply under the session that the request came in."""

    async def reply(message: codec.Message) -> None:
        await incoming.respond(session.seal(message))

    return reply

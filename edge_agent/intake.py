"""What comes from hubs: opened, checked for form, and handed on. Never waits: the subscription brings one frame at a time."""

from __future__ import annotations

from edge_agent.release.orders import Orders
from edge_agent.work.eraser import Eraser
from edge_agent.work.runner import Reply, Runner
from sync.bus.port import Bus, Incoming
from sync.kit import errors, logs
from sync.kit.ids import AgentId
from sync.wire import codec, subjects
from sync.wire.messages import Cancel, Erase, Ping, Pong, Run, Upgrade
from sync.wire.session import AgentSession, AgentSessions

log = logs.get("intake")
_CONTROLS: tuple[type[Ping | Cancel | Erase | Upgrade], ...] = (Ping, Cancel, Erase, Upgrade)


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

    async def listen(self) -> None:
        await self._bus.subscribe(subjects.run(self._me), self._on_run)
        await self._bus.subscribe(subjects.control(self._me), self._on_control)

    async def _on_run(self, incoming: Incoming) -> None:
        if not self.accepting:
            return
        try:
            session, run = self._sessions.open(incoming.data, Run)
        except errors.Corrupt as error:
            log.error("frame_refused", code=error.code, detail=str(error))
            return
        self._runner.start(run, _sealing(session, incoming))

    async def _on_control(self, incoming: Incoming) -> None:
        try:
            match codec.decode(incoming.data, *_CONTROLS):
                case Ping(request):
                    await incoming.respond(codec.encode(Pong(request in self._runner.at_work)))
                case Cancel(request):
                    self._runner.cancel(request)
                case Erase() as order:
                    await incoming.respond(codec.encode(await self._eraser.erase(order)))
                case Upgrade() as order:
                    await incoming.respond(codec.encode(self._orders.take(order)))
        except errors.RingfenceError as error:
            log.warning("control_refused", code=error.code, detail=str(error))


def _sealing(session: AgentSession, incoming: Incoming) -> Reply:
    """Seals each reply under the session that the request came in."""

    async def reply(message: codec.Message) -> None:
        await incoming.respond(session.seal(message))

    return reply

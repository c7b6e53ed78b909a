"""Sessions: a hub and one agent agree on a key, so that a broker in between sees only routing.

The hub draws a random key, seals it to the agent's X25519 key (HPKE), signs that under its own Ed25519 key, and sends both
along with every frame: an agent that restarts needs no handshake. From the key come two, one a direction. Each frame's
context names the session, the direction and the agent, so that a frame cannot be replayed to another agent or turned round.

Invariants, each with a test of its words:
- what is sealed to one agent opens at no other;
- a frame of the one direction does not open as the other;
- a session that the hub did not sign is refused;
- a session is used for at most an hour.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from sync.crypto import sealing, signing
from sync.kit import errors, ids
from sync.kit.clock import Clock
from sync.kit.ids import AgentId, SessionId
from sync.wire import codec
from sync.wire.messages import Sealed

LIFETIME_S = 3600.0
KEPT_SESSIONS = 256
"""How many sessions an agent remembers: some for each hub, the oldest forgotten first."""

M = TypeVar("M", bound=codec.Message)


class _Direction:
    """The key and the context of one direction of a session."""

    def __init__(self, key: bytes, session: SessionId, agent: AgentId, name: str) -> None:
        self._box = sealing.Box(sealing.derive(key, f"session/{name}"))
        self._context = f"{codec.VERSION}|{name}|{agent}|{session}".encode()

    def seal(self, message: codec.Message) -> bytes:
        return self._box.seal(codec.encode(message), context=self._context)

    def open(self, box: bytes, *kinds: type[M]) -> M:
        return codec.decode(self._box.open(box, context=self._context), *kinds)


class HubSession:
    """The end that opens a session: the hub's with one agent, or, for FORWARD, an agent's with the hub."""

    def __init__(
        self, agent: AgentId, agent_key: sealing.SealingKey, signer: signing.Signer, now: float, purpose: str = signing.SESSION
    ) -> None:
        self.agent = agent
        self.agent_key = agent_key
        self.expires = now + LIFETIME_S
        self.id = ids.session_id()
        key = sealing.new_key()
        info = _info(purpose, agent, self.id)
        self._key = sealing.seal_to(agent_key, key, info=info)
        self._signature = signer.sign(purpose, info + self._key)
        self._out = _Direction(key, self.id, agent, "to-agent")
        self._in = _Direction(key, self.id, agent, "to-hub")

    def seal(self, message: codec.Message) -> bytes:
        """The sealed frame of a message to the agent."""
        return codec.encode(Sealed(self.id, self._key, self._signature, self._out.seal(message)))

    def open(self, frame: bytes, *kinds: type[M]) -> M:
        """The agent's message in a sealed frame. Raises Corrupt where it is not for this session."""
        return self._in.open(codec.decode(frame, Sealed).box, *kinds)


class HubSessions:
    """One session for each agent, made anew when its hour is over or the agent has another key."""

    def __init__(self, signer: signing.Signer, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock
        self._sessions: dict[AgentId, HubSession] = {}

    def to(self, agent: AgentId, key: sealing.SealingKey) -> HubSession:
        """The session to seal with now."""
        session = self._sessions.get(agent)
        if session is None or session.expires <= self._clock.monotonic() or session.agent_key != key:
            session = self._sessions[agent] = HubSession(agent, key, self._signer, self._clock.monotonic())
        return session


class AgentSession:
    """The agent's end of a session."""

    def __init__(self, agent: AgentId, session: SessionId, key: bytes) -> None:
        self.id = session
        self._in = _Direction(key, session, agent, "to-agent")
        self._out = _Direction(key, session, agent, "to-hub")

    def open(self, sealed: Sealed, *kinds: type[M]) -> M:
        return self._in.open(sealed.box, *kinds)

    def seal(self, message: codec.Message) -> bytes:
        """The sealed frame of a reply. The hub knows the key already, so it is not sent back."""
        return codec.encode(Sealed(self.id, b"", b"", self._out.seal(message)))


class AgentSessions:
    """The sessions that hubs have opened with this agent; or, for FORWARD, this agent with the hub. `hub`: who opens them."""

    def __init__(
        self, agent: AgentId, opener: sealing.Opener, hub: signing.PublicKey, clock: Clock, purpose: str = signing.SESSION
    ) -> None:
        self._purpose = purpose
        self._agent = agent
        self._opener = opener
        self._hub = hub
        self._clock = clock
        self._sessions: OrderedDict[SessionId, tuple[float, AgentSession]] = OrderedDict()

    def open(self, frame: bytes, *kinds: type[M]) -> tuple[AgentSession, M]:
        """The session and the message of a sealed frame. Raises Corrupt, and keeps nothing of a frame that does not fit."""
        sealed = codec.decode(frame, Sealed)
        known = self._sessions.get(sealed.session)
        if known is None:
            session = self._accept(sealed)
            message = session.open(sealed, *kinds)
            # Twice the hub's own lifetime: a frame in flight when the hour ends still opens.
            self._sessions[sealed.session] = (self._clock.monotonic() + 2 * LIFETIME_S, session)
            if len(self._sessions) > KEPT_SESSIONS:
                self._sessions.popitem(last=False)
            return session, message
        expires, session = known
        if expires <= self._clock.monotonic():
            raise errors.Corrupt("A frame of a session that is over came.", code="session_over")
        return session, session.open(sealed, *kinds)

    def _accept(self, sealed: Sealed) -> AgentSession:
        info = _info(self._purpose, self._agent, sealed.session)
        signing.verify(self._hub, self._purpose, info + sealed.key, sealed.signature)
        return AgentSession(self._agent, sealed.session, self._opener.open(sealed.key, info=info))


def _info(purpose: str, agent: AgentId, session: SessionId) -> bytes:
    return f"ringfence/v1/{purpose}|{agent}|{session}|".encode()

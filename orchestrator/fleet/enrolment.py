"""Agents come in by their invitations, and get their next certificates by their last ones.

Invariants, each with a test of its words:
- an agent's name, place and tenants are its invitation's, whatever its request says;
- of two that show one token at once, exactly one comes in; and a token shown again with other keys locks who came by it;
- whoever lost the answer gets it again by the same keys;
- a certificate that was followed by another renews nothing: who tries has a copy of the keys: that is an alarm, and locks it;
- who is revoked or locked is told so, and gets nothing; who proves no key learns nothing, not even whether there is such an agent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.authority.authority import AGENT, Authority
from orchestrator.fleet import invitations
from orchestrator.fleet.admission import Admitted, AgentStore, Certified, InvitationStore
from orchestrator.ledger.port import Incident, LedgerStore
from sync.crypto import authority, sealing, signing
from sync.crypto.signing import PublicKey
from sync.kit import errors, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault, Faults
from sync.kit.ids import AgentId, Epoch, Region
from sync.wire import enrolment, invitation, renewal
from sync.wire.renewal import Renewal, Renewed

log = logs.get("enrolment")
MOST_AT_ONCE = 64
"""Who is not in yet shares a process with those who ask: so many are looked at at a time, the others are told to come again."""


class Busy(errors.Retryable):
    """Not now."""

    code = "enrolment_busy"


class KeptOut(errors.Refused):
    """The agent is revoked or locked, or its certificate is of no use any more."""

    code = "agent_kept_out"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where agents reach this hub: its broker, and what takes invitations and renewals by HTTPS."""

    broker: str
    enrol: str


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a certificate counts, and for how long after its end it still gets the next one, in seconds."""

    life_s: float
    grace_s: float


class Enrolment:
    """What a hub answers to those who come in: at most MOST_AT_ONCE of them at a time."""

    def __init__(
        self, *, agents: AgentStore, invited: InvitationStore, authority: Callable[[], Authority], signer: signing.Signer,
        pepper: bytes, addresses: Callable[[], Addresses], terms: Terms, clock: Clock, faults: Faults, incidents: LedgerStore,
    ) -> None:  # fmt: skip
        self._agents = agents
        self._invited = invited
        self._authority = authority
        self._signer = signer
        self._pepper = pepper
        self._addresses = addresses
        self._terms = terms
        self._clock = clock
        self._faults = faults
        self._incidents = incidents
        self._at_work = 0

    async def enrol(self, text: str, asked: bytes) -> bytes:
        """The admission for whoever shows this token with this request. Raises TokenRefused, Misconfigured or Busy."""
        with self._one_more():
            return await self._enrol(text, asked)

    async def renew(self, frame: bytes) -> bytes:
        """The answer to a renewal's frame, a refusal too. Raises Corrupt where it is no such frame, or Busy."""
        asked = renewal.read(frame)
        try:
            with self._one_more():
                chain = await self._renew(asked)
        except KeptOut as error:
            log.warning("renewal_refused", agent=asked.agent, code=error.code)
            return renewal.answer(frame, Renewed(b"", b"", error.code, str(error), b""), self._signer)
        return renewal.answer(frame, Renewed(chain, self._authority().trusted, renewal.GRANTED, "", b""), self._signer)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        if self._at_work >= MOST_AT_ONCE:
            raise Busy("Too many come in at once: try again.", retry_after_s=5)
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    async def _enrol(self, text: str, asked: bytes) -> bytes:
        token, request, now = invitation.parse(text), enrolment.read_request(asked), self._clock.wall()
        found = invitations.check(await self._invited.find(token.id), token, self._pepper, now)
        agent = invitations.agent_of(found, request.signing_key, request.sealing_key)
        if not found.used_by:
            certified, chain = self.certify(agent.id, request.certificate_request)
            admitted = Admitted(agent, certified)
            if await self._invited.use(token.id, admitted, at=now):
                log.info("agent_enrolled", agent=agent.id, site=agent.site, fingerprint=request.fingerprint)
                return self.answer(admitted, found.region, chain)
        return await self._again(token.id, request, now)

    def certify(self, agent: AgentId, asked: bytes) -> tuple[Certified, bytes]:
        """A first certificate: what is kept of it, and its chain."""
        now = self._clock.wall()
        chain = self._authority().certify_agent(agent, asked, now, self._terms.life_s)
        return Certified(authority.key_of_certificate(chain), b"", now, now + self._terms.life_s), chain

    def answer(self, admitted: Admitted, region: Region, chain: bytes) -> bytes:
        """The admission for the agent: sealed to it, and of use only with its keys."""
        agent, at = admitted.agent, self._addresses()
        made = enrolment.Admission(
            name=agent.id, hub_key=self._signer.public_key, broker_url=at.broker, enrol_url=at.enrol, site=agent.site,
            zone=agent.zone, region=region, tenants=agent.tenants, certificate=chain, trusted=self._authority().trusted,
        )  # fmt: skip
        return enrolment.seal_admission(made, sealing.SealingKey(agent.sealing_key))

    async def _renew(self, asked: Renewal) -> bytes:
        known, now = await self._agents.find(asked.agent), self._clock.wall()
        record = known or await self._agents.find_revoked(asked.agent)
        try:
            if record is None:
                raise errors.Corrupt("There is no such agent.")
            renewal.check(asked, PublicKey(record.agent.signing_key))
        except errors.Corrupt as error:
            # The same for who asks in a name that there is: who holds no key learns nothing of the fleet.
            raise KeptOut("The hub does not know this agent: it needs an invitation.", code="agent_unknown") from error
        if known is None:
            raise KeptOut("The hub has revoked this agent: it needs a new invitation.", code="agent_revoked")
        if known.locked:
            raise KeptOut(f"The hub has locked this agent: {known.locked}.", code="agent_locked")
        try:
            told = authority.verify(asked.certificate, self._authority().trusted, now=now, grace_s=self._terms.grace_s)
        except authority.BadCertificate as error:
            raise KeptOut(
                "The certificate ended too long ago, or is of another authority: the agent needs a new invitation.",
                code="certificate_over",
            ) from error
        if told.uri != authority.uri(AGENT, asked.agent):
            raise KeptOut("The certificate is another agent's.", code="certificate_foreign")
        return await self._follow(known, asked, told, now)

    async def _follow(self, known: Admitted, asked: Renewal, told: authority.Told, now: float) -> bytes:
        """The certificate that follows `told`, where that was the last one."""
        last, wanted = known.certified, authority.key_of_request(asked.request)
        again = told.key == last.before and wanted == last.key
        # A hub that was restored from a backup has forgotten certificates that it issued since: those are newer than what it knows.
        newer = told.issued > last.issued
        if not (told.key == last.key or again or newer):
            await self._alarm(
                asked.agent, Fault.KEYS_COPIED, "a certificate came back that another had followed: its keys were copied"
            )
            raise KeptOut(
                "This certificate was followed by another one: somebody has a copy of these keys, and the agent is locked.",
                code="agent_locked",
            )
        chain = self._authority().certify_agent(asked.agent, asked.request, now, self._terms.life_s)
        before = last.before if again else told.key
        following = Certified(wanted, before, now, now + self._terms.life_s)
        await self._keep(asked.agent, last, following)
        log.info("certificate_renewed", agent=asked.agent)
        return chain

    async def _again(self, token: str, request: enrolment.Request, now: float) -> bytes:
        """A token that was used: its own agent lost the answer, or somebody else has it."""
        found = await self._invited.find(token)
        if found is None or not found.used_by:
            raise invitations.TokenRefused("The invitation has expired: ask for a new one.", code="token_expired")
        known = await self._agents.find(found.name)
        if known is None:
            raise invitations.TokenRefused("The invitation was used, and its agent is revoked since.", code="token_used")
        if found.used_by != request.signing_key:
            if not known.locked:
                await self._alarm(found.name, Fault.TOKEN_REUSED, "its invitation was shown again with other keys")
            raise invitations.TokenRefused(
                f"The invitation was used before, by other keys: the agent '{found.name}' is locked, and the hub says so.",
                code="token_used",
            )
        if known.locked:
            raise invitations.TokenRefused(f"The agent '{found.name}' is locked: {known.locked}.", code="token_used")
        certified, chain = self.certify(found.name, request.certificate_request)
        await self._keep(found.name, known.certified, certified)
        return self.answer(known, found.region, chain)

    async def _keep(self, agent: AgentId, last: Certified, following: Certified) -> None:
        """Raises Busy where another certificate came between: what was issued and is not kept would pass for a copy later."""
        if not await self._agents.certify(agent, last.key, following):
            raise Busy("Another request of this agent came between: try again.", retry_after_s=1)

    async def _alarm(self, agent: AgentId, fault: Fault, why: str) -> None:
        now = self._clock.wall()
        await self._agents.lock(agent, why, at=now)
        self._faults.note(fault, f"'{agent}': {why}")
        await self._incidents.record_incident(Incident(agent, Epoch(""), fault.value, why, b""), at=now)

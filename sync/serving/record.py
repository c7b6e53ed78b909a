"""What the audit log holds of a request: one list of fields, at hub and site alike. Ids, counts and keyed digests, never a
value from the prompt.

A request is written down before anything of it leaves (`decided`), again for each further place that gets it (`tried`),
and once when it is over (`request`). See sync/audit/kinds.py for the kinds.

Invariants, each with a test of its words:
- nothing is sent without the record of the decision on disk: what is sent asks for it;
- a request has one outcome, on every way out;
- an outcome that cannot be written now is written when that is possible again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from sync.audit import contents, kinds
from sync.audit.journal import Journal, Retained, Written
from sync.audit.unfinished import close_unfinished
from sync.crypto import digest, sealing
from sync.kit import errors, logs
from sync.kit.clock import Clock
from sync.kit.ids import AgentId, PrincipalId, RequestId, TenantId
from sync.policy.authenticate import Principal
from sync.serving.ask import Ask
from sync.serving.decided import Decided
from sync.serving.executor import Place
from sync.serving.outcome import Outcome
from sync.serving.sparing import Sparing
from sync.wire.levels import Level

log = logs.get("record")
LATE_EVERY_S = 2.0
"""Seconds between tries to write outcomes that could not be written: a disk that is full stays so for seconds at least."""
MAX_LATE = 10_000
"""Outcomes that wait for the disk at most: what is beyond is closed as interrupted at the next start."""

ALREADY_RECORDED = "already_recorded"
Fields = dict[str, object]
_LEAST = ("request", "principal", "key", "task", "decision", "level", "agent", "zone", "region", "tries", "outcome", "code")
"""What is written of a request whose whole record is too large to be one: ids and words of ours, which are short."""


class Digests:
    """Keyed digests, one key per tenant: a key holder can check whether a text was sent, and nobody else can test guesses."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        # Derived once: HKDF takes longer than the digest itself.
        self._keys: dict[TenantId, bytes] = {}

    def redaction_key(self, tenant: TenantId) -> bytes:
        """Return the key of the tenant's hashes in redacted text."""
        return sealing.derive(self._secret, f"redaction/{tenant}")

    def of(self, tenant: TenantId, what: str, text: str) -> bytes:
        """Return the digest of a text under the tenant's key: 32 bytes."""
        key = self._keys.get(tenant)
        if key is None:
            key = self._keys[tenant] = sealing.derive(self._secret, f"digest/{tenant}")
        return digest.keyed(key, what, text.encode("utf-8", "surrogatepass"))


@dataclass(slots=True)
class _Late:
    tenant: TenantId
    fields: Fields
    closes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Who asked, and what is known of a request that could not be read. via: the agent of the site that sent it on."""

    request: RequestId
    principal: Principal
    task: str = ""
    model: str = ""
    trace: str = ""
    via: str = ""


class Recorder:
    """Writes the records of requests into this process's journal.

    standing: what a site adds of how it stands to its hub: `mode` and `contact_age_s`; empty at the hub.
    """

    def __init__(
        self,
        journal: Journal,
        digests: Digests,
        clock: Clock,
        *,
        me: AgentId | None = None,
        standing: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self.journal = journal
        self.digests = digests
        self._me = me or ""
        self._standing = standing
        self._begun = False
        self._pending: set[asyncio.Task[None]] = set()
        self._late: deque[_Late] = deque(maxlen=MAX_LATE)
        self._sparing: Sparing[tuple[TenantId, PrincipalId, str]] = Sparing(clock)

    async def decided(self, decided: Decided, place: Place, outcome: Outcome) -> Written:
        """Write down the decision and the first place that will get the request. Raises AuditUnavailable."""
        outcome.known = self.fields_of(decided)
        fields = {**outcome.known, **_where(place), "redacted": outcome.redacted, "tries": 1}
        ask, tenant = decided.ask, decided.principal.tenant
        # Whom it is about, and nothing of what was said: a request that is interrupted is found by its subject too.
        retained = contents.retain(tenant.id, tenant.retention.key, (), "", ask.subject, whole=False)
        return await self.journal.append(tenant.id, kinds.DECIDED, fields, retained, opens=ask.request)

    async def tried(self, decided: Decided, place: Place, outcome: Outcome) -> Written:
        """Write down a further place that will get the request. Raises AuditUnavailable.

        It says all that `decided` says, so that the outcome of a killed process names the place that had it last.
        """
        fields: Fields = {
            **outcome.known,
            **_where(place),
            "redacted": outcome.redacted,
            "tries": outcome.tries + 1,
            "tried": tuple(outcome.tried),
            "code": outcome.tried[-1][2] if outcome.tried else "",
        }
        request = decided.ask.request
        return await self.journal.append(decided.principal.tenant.id, kinds.TRIED, fields, goes_on=request)

    async def outcome(self, decided: Decided, outcome: Outcome, ms: float, error: BaseException | None) -> None:
        """Write down how a decided request ended. Raises AuditUnavailable, and tries again later by itself."""
        tenant = decided.principal.tenant
        fields = {**(outcome.known or self.fields_of(decided)), **self._ended(decided, outcome, ms, error)}
        retained = None
        if error is None:
            retained = self._retained(decided, outcome)
            if retained is not None and retained.sealed:
                fields[contents.DIGEST_FIELD] = contents.digest_of(retained.sealed)
        closes = decided.ask.request if outcome.opened else ""
        try:
            await self._close(tenant.id, fields, retained, closes)
        except errors.RingfenceError as failed:
            if error is None:
                # The answer was not finished for want of this record: that is what is written down later.
                fields |= {"outcome": "failed", "code": failed.code}
                fields.pop(contents.DIGEST_FIELD, None)
            if isinstance(failed, errors.Refused):
                fields = {name: fields[name] for name in _LEAST if name in fields}
            self._late.append(_Late(tenant.id, fields, closes))
            raise

    async def _close(self, tenant: TenantId, fields: Fields, retained: Retained | None, closes: str) -> None:
        """Append an outcome. Where the journal knows of no beginning, the client left before it came there: it stands alone."""
        try:
            await self.journal.append(tenant, kinds.REQUEST, fields, retained, closes=closes)
        except errors.Refused as error:
            if error.code != ALREADY_RECORDED or not closes:
                raise
            await self.journal.append(tenant, kinds.REQUEST, fields, retained)

    async def refused(self, ask: Ask, principal: Principal, error: BaseException, *, ms: float, serial: int) -> None:
        """Write down a request that ended before a decision was made. What cannot be written is written later."""
        await self._refused(principal, error, self._asked(ask, principal), ms=ms, serial=serial)

    async def turned_away(self, refusal: Refusal, error: BaseException, *, ms: float, serial: int) -> None:
        """Write down a request of a known key that was refused before it could be read."""
        asked = self._asking(
            refusal.request,
            refusal.principal,
            task=refusal.task,
            model=refusal.model,
            trace=refusal.trace,
            via=refusal.via,
        )
        await self._refused(refusal.principal, error, asked, ms=ms, serial=serial)

    async def _refused(self, principal: Principal, error: BaseException, asked: Fields, *, ms: float, serial: int) -> None:
        """Of many alike within a minute the first ones are written down, and the others counted into one record."""
        tenant, code = principal.tenant.id, code_of(error)
        counted = self._sparing.take((tenant, principal.id, code))
        if counted is None:
            return
        ended: Fields = {"outcome": outcome_of(error), "code": code, "ms": round(ms, 2)}
        if counted:
            ended["more"] = counted
        await self.note(tenant, {**asked, "bundle": serial, **ended})

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Write something down without anybody waiting for it; `finish` waits."""
        self.await_at_stop(asyncio.ensure_future(work))

    def await_at_stop(self, task: asyncio.Task[None]) -> None:
        """Have `finish` wait for a task that records."""
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def finish(self, timeout_s: float) -> None:
        """Write what waits, before the journal is closed; what cannot be written is closed as interrupted at the next start."""
        if self._pending:
            await asyncio.wait(list(self._pending), timeout=timeout_s)
        await self.write_late()
        await self._write_counted(at_once=True)

    async def _write_counted(self, *, at_once: bool) -> None:
        for (tenant, principal, code), more in self._sparing.over(at_once=at_once):
            await self.note(tenant, {"principal": principal, "outcome": "refused", "code": code, "more": more})

    async def note(self, tenant: TenantId, fields: Fields) -> None:
        """Write down a request that nothing was decided about; later, where that cannot be done now."""
        try:
            await self.journal.append(tenant, kinds.REQUEST, fields)
        except errors.RingfenceError as error:
            log.error("refusal_not_recorded", request=fields.get("request"), code=error.code)
            self._late.append(_Late(tenant, fields, ""))

    async def begin(self) -> None:
        """Record the outcome of each request that a former life of this process left open; later, where that fails now."""
        try:
            await close_unfinished(self.journal)
            self._begun = True
        except errors.RingfenceError as error:
            log.error("interrupted_not_recorded", code=error.code)

    async def catch_up(self) -> None:
        """Write outcomes that could not be written when they came about. Runs until cancelled."""
        while True:
            await asyncio.sleep(LATE_EVERY_S)
            if not self._begun:
                await self.begin()
            await self.write_late()
            await self._write_counted(at_once=False)

    async def write_late(self) -> int:
        """Write what is late, in its order, until that fails; return how many were written."""
        written = 0
        while self._late:
            late = self._late[0]
            try:
                await self._close(late.tenant, {**late.fields, "late": True}, None, late.closes)
            except errors.Refused as error:
                log.error("outcome_not_recorded", request=late.fields.get("request"), code=error.code)
            except errors.RingfenceError:
                return written
            # Not blindly: while this one was written, the oldest may have had to make room for a new one.
            if self._late and self._late[0] is late:
                self._late.popleft()
            written += 1
        return written

    def fields_of(self, decided: Decided) -> Fields:
        """Return what is known of a request before it runs."""
        decision, assessment = decided.decision, decided.assessment
        return {
            **self._asked(decided.ask, decided.principal),
            "model": decided.model.name if decided.model else "",
            "bundle": decided.snapshot.serial,
            "decision": decided.id,
            "level": decision.level.label,
            "found": dict(assessment.counts()),
            "categories": assessment.categories,
            "classifier_failed": assessment.failed,
            "classifier_model": assessment.model,
            "allowed": decision.allowed,
            "rules": tuple(reason.rule for reason in decision.reasons),
            "zones": tuple(zone.value for zone in decision.zones),
            "regions": decision.regions,
        }

    def _asked(self, ask: Ask, principal: Principal) -> Fields:
        return self._asking(
            ask.request,
            principal,
            task=ask.task,
            model=ask.model or "",
            trace=ask.trace,
            via=ask.via,
            declared=ask.declared,
        )

    def _asking(
        self,
        request: RequestId,
        principal: Principal,
        *,
        task: str,
        model: str,
        trace: str,
        via: str,
        declared: Level = Level.PUBLIC,
    ) -> Fields:
        return {
            "request": request,
            "trace": trace,
            "principal": principal.id,
            "key": principal.key,
            "task": task,
            "model": model,
            "declared": declared.label,
            "via": via or self._me,
            **self._standing(),
        }

    def _ended(self, decided: Decided, outcome: Outcome, ms: float, error: BaseException | None) -> Fields:
        tenant, place = decided.principal.tenant.id, outcome.place
        where = _where(place) if place is not None else {"agent": "", "zone": "", "region": "", "forwarded": False}
        text = outcome.text
        return {
            **where,
            "redacted": outcome.redacted,
            "tries": outcome.tries,
            "tried": tuple(outcome.tried),
            "cache": outcome.cached,
            "outcome": outcome_of(error, outcome.tries),
            "code": code_of(error),
            "finish": outcome.finish,
            "prompt_tokens": outcome.prompt_tokens,
            "completion_tokens": outcome.completion_tokens,
            "estimated": outcome.estimated,
            "prompt_digest": self.digests.of(tenant, "prompt", "\x00".join(decided.ask.texts)),
            "answer_digest": self.digests.of(tenant, "answer", text) if text else b"",
            "ms": round(ms, 2),
        }

    def _retained(self, decided: Decided, outcome: Outcome) -> Retained | None:
        """Return what the tenant retains of it. The hub retains what it has answered itself, a site what was answered there."""
        ask, tenant = decided.ask, decided.principal.tenant
        policy = tenant.retention
        here = outcome.place is None or not outcome.place.forwarded
        return contents.retain(tenant.id, policy.key, ask.texts, outcome.text, ask.subject, whole=policy.contents and here)


def outcome_of(error: BaseException | None, tries: int = 0) -> str:
    """Return the word for how a request ended: answered, refused (nothing ran), failed (it was tried) or cancelled."""
    if error is None:
        return "answered"
    if isinstance(error, errors.RingfenceError):
        return "failed" if tries else "refused"
    return "failed" if isinstance(error, Exception) and not isinstance(error, ConnectionError) else "cancelled"


def code_of(error: BaseException | None) -> str:
    """Return the stable code of how a request ended; empty where it was answered, or its client left."""
    if isinstance(error, errors.RingfenceError):
        return error.code
    return errors.RingfenceError.code if outcome_of(error) == "failed" else ""


def _where(place: Place) -> Fields:
    return {
        "agent": place.agent,
        "zone": place.zone.value if place.zone else "",
        "region": place.region or "",
        "forwarded": place.forwarded,
    }

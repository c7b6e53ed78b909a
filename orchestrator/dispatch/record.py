"""What the audit log holds of a request: ids, counts and keyed digests, never a value from the prompt."""

from __future__ import annotations

from orchestrator.dispatch.ask import Admitted, Decided, Outcome
from sync.crypto import digest, sealing
from sync.kit import errors
from sync.kit.ids import TenantId

KIND = "request"


class Digests:
    """Keyed digests, a key a tenant: whoever holds the key can check whether a text was sent, and nobody else can guess."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._keys: dict[TenantId, bytes] = {}

    def redaction_key(self, tenant: TenantId) -> bytes:
        """The key of the tenant's hashes in redacted text."""
        return sealing.derive(self._secret, f"redaction/{tenant}")

    def of(self, tenant: TenantId, what: str, text: str) -> bytes:
        key = self._keys.get(tenant)
        if key is None:
            key = self._keys[tenant] = sealing.derive(self._secret, f"digest/{tenant}")
        return digest.keyed(key, what, text.encode("utf-8", "surrogatepass"))


def of_refusal(admitted: Admitted, error: errors.RingfenceError, ms: float) -> dict[str, object]:
    """The record of a request that ended before a decision was made."""
    return {**_asked(admitted), "outcome": "refused", "code": error.code, "ms": round(ms, 2)}


def of_request(decided: Decided, outcome: Outcome, digests: Digests, ms: float, error: BaseException | None) -> dict[str, object]:
    """The record of a request that was decided, however it ended."""
    admitted, decision, choice = decided.admitted, decided.decision, outcome.choice
    tenant = admitted.principal.tenant.id
    return {
        **_asked(admitted),
        "decision": decided.id,
        "level": decision.level.label,
        "found": decided.assessment.counts(),
        "categories": decided.assessment.categories,
        "classifier_failed": decided.assessment.failed,
        "classifier_model": decided.assessment.model,
        "allowed": decision.allowed,
        "rules": tuple(reason.rule for reason in decision.reasons),
        "zones": tuple(zone.value for zone in decision.zones),
        "regions": decision.regions,
        "agent": choice.agent if choice else "",
        "zone": choice.zone.value if choice else "",
        "region": choice.region if choice else "",
        "redacted": outcome.vault.mode.value if outcome.vault else "",
        "tries": outcome.tries,
        "cache": outcome.cached,
        "outcome": _outcome(error),
        "code": error.code if isinstance(error, errors.RingfenceError) else "",
        "finish": outcome.finish,
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": outcome.completion_tokens,
        "prompt_digest": digests.of(tenant, "prompt", "\x00".join(admitted.ask.texts)),
        "answer_digest": digests.of(tenant, "answer", outcome.text) if outcome.text else b"",
        "ms": round(ms, 2),
    }


def _asked(admitted: Admitted) -> dict[str, object]:
    return {
        "request": admitted.ask.request,
        "trace": admitted.ask.trace,
        "principal": admitted.principal.id,
        "key": admitted.principal.key,
        "task": admitted.ask.task,
        "model": admitted.model.name if admitted.model else "",
        "declared": admitted.ask.declared.label,
        "bundle": admitted.snapshot.serial,
        "via": admitted.ask.via,
    }


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "answered"
    if isinstance(error, errors.Refused):
        return "refused"
    return "failed" if isinstance(error, errors.RingfenceError) else "cancelled"

"""A request without what was found in it, for the places that get it so.

Invariants, each with a law of its words in tests/laws:
- what is redacted is redacted once, however many places are tried;
- a request that redaction would turn into another one goes to no place that redacts.
"""

from __future__ import annotations

from collections.abc import Sequence

from sync.kit import errors
from sync.serving.classifier import Classifier, NotRedactable
from sync.serving.decided import Decided
from sync.serving.outcome import Outcome, Redacted
from sync.wire import strings, tasks


async def redacted(classifier: Classifier, decided: Decided, outcome: Outcome, key: bytes) -> Redacted:
    """Return the request for a place that redacts: as it was made for the first of them.

    Args:
        key: The tenant's secret, that hashes of findings are made with.

    Raises:
        NotRedactable: It would no longer be the request that it was.
    """
    if outcome.redaction is None:
        try:
            outcome.redaction = await _made(classifier, decided, key)
        except NotRedactable as error:
            outcome.redaction = error
    if isinstance(outcome.redaction, NotRedactable):
        raise outcome.redaction
    return outcome.redaction


async def _made(classifier: Classifier, decided: Decided, key: bytes) -> Redacted:
    ask, payload = decided.ask, decided.ask.payload
    vault = classifier.vault(decided.principal.tenant, key)
    texts = await classifier.redact(vault, ask.texts, decided.assessment.findings)
    _check_kept(ask.texts, texts)
    try:
        payload = strings.replaced(payload, texts)
    except strings.Unreplaceable as error:
        raise NotRedactable(f"With what was found taken out, it would be another request: {error}.") from error
    _check_whole(payload)
    # Without a response format nobody expects JSON, and a text with escapes in it would be wrong.
    json = isinstance(payload, tasks.Generate) and payload.response_format is not None
    return Redacted(payload, vault, json)


def _check_kept(before: Sequence[str], after: Sequence[str]) -> None:
    """Return where no text has become empty: an empty message or stop means something else. Raises NotRedactable."""
    if any(old.strip() and not new.strip() for old, new in zip(before, after, strict=True)):
        raise NotRedactable("With what was found taken out, nothing is left of one of the request's texts.")


def _check_whole(payload: tasks.Request) -> None:
    """Return where a redacted request still is one: a name may be too long. Raises NotRedactable."""
    try:
        tasks.read_request(payload.TASK, tasks.pack(payload))
    except errors.Corrupt as error:
        raise NotRedactable("With what was found taken out, it is no request that a model could be sent.") from error

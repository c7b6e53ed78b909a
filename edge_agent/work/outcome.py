"""What a run came to: the answer as it is sent and kept, what it took in tokens, and how a failure is told. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_agent.inference import port
from edge_agent.inference.port import Result
from edge_agent.work.cache import Answer
from edge_agent.work.pieces import Counted
from sync.audit.journal import AuditUnavailable
from sync.kit import errors
from sync.policy.admit import TicketRefused
from sync.serving import replies, usage
from sync.wire import codec, tasks, types
from sync.wire.messages import MAX_REPLY

MAX_RESULT = MAX_REPLY - types.KIB
"""Bytes of a result: what the frame of a reply leaves for it."""
MAX_SENTENCE = 3000
"""Bytes of a sentence: the frame of a failure has 4 KiB, and a character up to four bytes."""
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")


class BadAnswer(errors.RingfenceError):
    """The model answered with what no reply can carry: numbers out of range, or too few answers."""

    code = "bad_answer"


@dataclass(frozen=True, slots=True)
class Used:
    """What a run took, in tokens. `estimated`: computed from the sizes of texts, since nobody counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A failure as others are told of it. `retryable`: another agent may be tried."""

    error: errors.RingfenceError
    retryable: bool
    retry_after_s: float


def may_be_kept(request: tasks.Request) -> bool:
    """Return whether one text is all of the answer: several, or scores of tokens, are made anew."""
    return not isinstance(request, tasks.Generate) or (request.n in (None, 1) and not request.logprobs)


def answer(request: tasks.Request, result: Result, *, streamed: bool) -> Answer:
    """Return the answer as it is sent. Raises BadAnswer or AnswerTooLarge.

    streamed: whether its text has gone out in pieces already.
    """
    found = _without_text(result.answer) if streamed else result.answer
    try:
        packed = tasks.pack(found)
        # Read as its reader reads it: what that would refuse is this run's failure, and nobody's fault there.
        tasks.read_answer(request, packed)
    except (codec.BadFrame, ValueError, TypeError, OverflowError) as error:
        raise BadAnswer("The model's answer is not one to this request, and cannot be sent.") from error
    if len(packed) > MAX_RESULT:
        raise replies.AnswerTooLarge(f"The answer has {len(packed)} bytes, and at most {MAX_RESULT} can be sent.")
    if not _are_counts(result):
        raise BadAnswer("The model counts tokens in a number that a request cannot have.")
    return Answer(packed, result.text, result.prompt_tokens, result.completion_tokens, result.finish[: port.MAX_FINISH])


def used(result: Result | None, request: tasks.Request | None, made: Counted | None, error: errors.RingfenceError | None) -> Used:
    """Return what a run took, however it ended.

    result: where it was whole; then its own counts hold.
    request: what the engine was asked; None where nothing was asked of it.
    made: what came of it before it ended; it is counted, or estimated, up to there.
    """
    if result is not None and _are_counts(result):
        return Used(result.prompt_tokens, result.completion_tokens, result.estimated)
    tokens = made.tokens if made is not None else 0
    if request is None or (not tokens and isinstance(error, (errors.Refused, port.Overloaded))):
        return Used()  # it was turned away: nothing was computed
    return Used(usage.estimate(port.text_bytes(request)), tokens, estimated=True)


def told(error: errors.RingfenceError) -> Told:
    """Return a failure as the hub and the client are told of it."""
    retryable = isinstance(error, (errors.Retryable, TicketRefused)) and not isinstance(error, AuditUnavailable)
    wait = error.retry_after_s if isinstance(error, errors.Retryable) else 0.0
    # What is wrong on this machine is for its log: paths and settings are no business of the client.
    here = isinstance(error, errors.Misconfigured)
    sentence = "The agent cannot use this model; its log says why." if here else str(error)
    cut = sentence.encode("utf-8", "replace")[:MAX_SENTENCE].decode("utf-8", "ignore")
    code = error.code if _CODE.fullmatch(error.code) else "agent_failed"
    return Told(errors.RingfenceError(cut, code=code), retryable, min(types.MAX_SECONDS, max(0.0, wait)))


def _are_counts(result: Result) -> bool:
    return all(0 <= count <= types.MAX_TOKENS for count in (result.prompt_tokens, result.completion_tokens))


def _without_text(found: tasks.Result) -> tasks.Result:
    if not isinstance(found, tasks.Generated):
        return found
    return tasks.Generated(tuple(tasks.Answer("", choice.finish) for choice in found.choices), found.reused_tokens)

"""What an engine is: a loaded model that does one task, off the event loop."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sync.kit import errors

Payload = Mapping[str, object]


class BadPayload(errors.Refused):
    """The request does not make sense for this model."""

    code = "bad_payload"


class ContextExceeded(errors.Refused):
    """The prompt is longer than the model can take."""

    code = "context_length_exceeded"


class Overloaded(errors.Retryable):
    """The model's queue is full, or the request has waited there for too long."""

    code = "overloaded"


class Priority(enum.IntEnum):
    """Who waits for whom. Batch work that has waited long counts as interactive."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a model works: queues are fair between tenants, and what is remembered of a prompt is one tenant's own."""

    tenant: str = ""
    priority: Priority = Priority.INTERACTIVE


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token's text and natural-log probability, and the likeliest tokens in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()

    @property
    def told(self) -> dict[str, object]:
        """As OpenAI's API tells it. `bytes` is what a client joins where a character is cut between tokens."""
        return {
            "token": self.token,
            "logprob": self.logprob,
            "bytes": list(self.token.encode("utf-8", "replace")),
            "top_logprobs": [{"token": t, "logprob": p, "bytes": list(t.encode("utf-8", "replace"))} for t, p in self.top],
        }


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer: text of one choice, and the scores of its tokens where they were asked for."""

    text: str
    choice: int = 0
    scores: tuple[TokenScore, ...] = ()


Emit = Callable[[Piece], None]
"""Takes a piece of the answer; may be called from any thread."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several answers to a prompt."""

    text: str
    finish: str
    scores: tuple[TokenScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run. `fields` is the task's own answer; `choices` what was generated, if anything was.

    `reused_tokens`: how many of the prompt's tokens were computed for an earlier request.
    """

    fields: dict[str, object]
    prompt_tokens: int
    completion_tokens: int = 0
    choices: tuple[Choice, ...] = ()
    reused_tokens: int = 0

    @property
    def text(self) -> str:
        return self.choices[0].text if self.choices else ""

    @property
    def finish(self) -> str:
        return self.choices[0].finish if self.choices else "stop"


class Engine(Protocol):
    """One loaded model."""

    @property
    def running(self) -> int:
        """Requests at work or waiting."""
        ...

    @property
    def held_bytes(self) -> int:
        """Bytes that requests have made it hold beside the model itself: key-value caches."""
        ...

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers that it really runs on."""
        ...

    async def run(self, payload: Payload, emit: Emit | None, caller: Caller) -> Result:
        """The result; pieces of its text go to `emit` as they come. Cancelling stops the work within a step.

        Raises BadPayload, ContextExceeded, Overloaded or BadModel.
        """
        ...

    async def close(self) -> None:
        """Ends what is at work, and gives everything back."""
        ...

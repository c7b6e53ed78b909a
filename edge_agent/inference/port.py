"""What an engine is: a loaded model that does one task, off the event loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sync.kit import errors

Payload = Mapping[str, object]
Emit = Callable[[str], None]
"""Takes a piece of the answer's text; may be called from any thread."""


class BadPayload(errors.Refused):
    """The request does not make sense for this model."""

    code = "bad_payload"


class ContextExceeded(errors.Refused):
    """The prompt is longer than the model can take."""

    code = "context_length_exceeded"


class Overloaded(errors.Retryable):
    """The model's queue is full."""

    code = "overloaded"


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run. `fields` is the task's own answer; `text` what was generated, if anything was."""

    fields: dict[str, object]
    prompt_tokens: int
    completion_tokens: int = 0
    finish: str = "stop"
    text: str = ""


class Engine(Protocol):
    """One loaded model."""

    @property
    def running(self) -> int:
        """Requests at work or waiting."""
        ...

    async def run(self, payload: Payload, emit: Emit | None) -> Result:
        """The result; pieces of its text go to `emit` as they come. Cancelling stops the work within a step.

        Raises BadPayload, ContextExceeded, Overloaded or BadModel.
        """
        ...

    def close(self) -> None: ...

"""What an engine is: a loaded model that does one task, off the event loop."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from sync.kit import errors
from sync.wire import codec, strings, tasks

LEAST_LOGPROB = -1e9
"""What minus infinity becomes: JSON has none, and a token of this chance never comes either."""
MOST_LOGPROB = 1.0
"""The most that the wire takes. By rounding, a certain token may have a little over 0."""
MAX_FINISH = 64
"""Characters of the reason for which an answer ended, as its type on the wire has them."""


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
class Piece:
    """A piece of an answer: text of one choice, and the scores of its tokens where they were asked for.

    `tokens`: how many of the model's tokens it is; 0 where that is not known.
    """

    text: str
    choice: int = 0
    scores: tuple[tasks.TokenScore, ...] = ()
    tokens: int = 0


class Emit(Protocol):
    """Takes the pieces of an answer as they come."""

    def __call__(self, piece: Piece) -> None:
        """Take a piece. May be called from any thread; never waits."""
        ...

    async def room(self) -> None:
        """Wait, in the event loop, until there is room for more.

        An engine whose pieces come faster than they are read, or without end, awaits this between
        them: then whoever makes them waits too. It lets other tasks run at least every few ms.
        """
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run: the task's own answer, and what it took in tokens.

    `estimated`: the counts are not the model's own but computed from the sizes of the texts.
    """

    answer: tasks.Result
    prompt_tokens: int
    completion_tokens: int = 0
    estimated: bool = False

    @property
    def choices(self) -> tuple[tasks.Answer, ...]:
        """What was generated, if anything was."""
        return self.answer.choices if isinstance(self.answer, tasks.Generated) else ()

    @property
    def text(self) -> str:
        return self.choices[0].text if self.choices else ""

    @property
    def finish(self) -> str:
        return self.choices[0].finish if self.choices else "stop"


def read(task: str, payload: bytes) -> tasks.Request:
    """Return the request in a run's payload. Raises BadPayload naming the field, or UnknownTask."""
    try:
        return tasks.read_request(task, payload)
    except codec.BadFrame as error:
        raise BadPayload(_naming_the_field(str(error))) from error


def not_for(name: str, task: str) -> BadPayload:
    """Return the refusal of a request that is of another task than the model's."""
    return BadPayload(f"The request is not one for {task}, and the model '{name}' does nothing else.")


def score(token: str, logprob: float, top: Iterable[tuple[str, float]] = ()) -> tasks.TokenScore:
    """Return a token's score as the wire takes it: finite, and text that UTF-8 can say.

    logprob: its natural-log probability; minus infinity and NaN become LEAST_LOGPROB.
    top: the likeliest tokens in its place, with theirs.
    """
    likely = tuple(tasks.LikelyToken(*_scored(text, chance)) for text, chance in top)
    return tasks.TokenScore(*_scored(token, logprob), likely[: tasks.MAX_TOP])


def text_bytes(request: tasks.Request) -> int:
    """Return how many bytes the texts of a request have in UTF-8. Tensors have none: numbers are no tokens."""
    if isinstance(request, tasks.Tensors):
        return 0
    return sum(len(text.encode("utf-8", "replace")) for text in strings.of(request))


def whole_characters(text: str) -> str:
    """Return the text with each half of a surrogate pair that stands alone replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _scored(token: str, logprob: float) -> tuple[str, float, tuple[int, ...]]:
    text = whole_characters(token)
    finite = LEAST_LOGPROB if math.isnan(logprob) else max(LEAST_LOGPROB, min(MOST_LOGPROB, logprob))
    return text, finite, tuple(text.encode())


def _naming_the_field(sentence: str) -> str:
    """Return the codec's sentence with the field in front: it knows places as `$.messages[0]`."""
    what, _, place = sentence.removesuffix("`").rpartition("is wrong: ")[2].partition(" - at `")
    field = place.removeprefix("key` in `").removeprefix("$").removeprefix(".")
    return f"{field or 'The request'}: {what.removesuffix('.')}."


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

    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        """Return the result; pieces of its text go to `emit` as they come. Cancelling stops the work within a step.

        Raises BadPayload, ContextExceeded, Overloaded or BadModel.
        """
        ...

    async def close(self) -> None:
        """Ends what is at work, and gives everything back."""
        ...

"""What a server answered, as the task's own result: texts, vectors, why they ended, and what they took.

Invariants, each with a test of its words:
- an answer without a count of tokens has an estimate, and says that it is one;
- a stream is not longer than any answer may be.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np

from edge_agent.inference import port
from edge_agent.inference.port import Piece, Result
from sync.kit import errors
from sync.serving import replies, usage
from sync.wire import tasks, types


class UpstreamFailed(errors.Retryable):
    """The server does not answer, or not as it should."""

    code = "upstream_failed"


class Gathered:
    """A stream's answer, put together for the record. `said`: whether a piece of it went out."""

    def __init__(self, request: tasks.Generate) -> None:
        self._request = request
        self._wanted = request.n or 1
        self._texts: dict[int, list[str]] = {}
        self._finish: dict[int, str] = {}
        self._usage: dict[str, object] = {}
        self._bytes = 0
        self.said = False

    def take(self, event: dict[str, object]) -> list[Piece]:
        """Return the pieces that an event adds. Raises UpstreamFailed or AnswerTooLarge."""
        if isinstance(event.get("usage"), dict):
            self._usage = event
        choices = event.get("choices")
        pieces: list[Piece] = []
        for choice in choices if isinstance(choices, list) else []:
            match choice:
                case {"index": int(number), "delta": dict(delta)}:
                    if not 0 <= number < self._wanted:
                        raise UpstreamFailed("The model's server numbered an answer that was not asked for.")
                    pieces += self._piece(number, delta.get("content"), choice.get("logprobs"))
                    if choice.get("finish_reason"):
                        self._finish[number] = _finish(choice["finish_reason"])
        return pieces

    def result(self) -> Result:
        """Return the whole answer. Raises UpstreamFailed where an answer is missing that was asked for."""
        numbers = range(self._wanted)
        if any(n not in self._texts and n not in self._finish for n in numbers):
            raise UpstreamFailed("The model's server ended its stream without an answer that was asked for.")
        found = tuple(tasks.Answer("".join(self._texts.get(n, [])), self._finish.get(n, "stop")) for n in numbers)
        return _counted(tasks.Generated(found), self._usage, self._request, self._bytes)

    def _piece(self, number: int, content: object, logprobs: object) -> Iterator[Piece]:
        text = port.whole_characters(content) if isinstance(content, str) else ""
        scores = _scores(logprobs)
        if not text and not scores:
            return
        self._bytes += len(text.encode())
        if self._bytes > replies.MAX_ANSWER:
            most = replies.MAX_ANSWER >> 20
            raise replies.AnswerTooLarge(f"The answer is longer than {most} MiB: ask for less of it (max_tokens).")
        self._texts.setdefault(number, []).append(text)
        yield Piece(text, number, scores)


def whole(answer: dict[str, object], request: tasks.Generate) -> Result:
    """Return an answer that came in one. Raises UpstreamFailed."""
    try:
        found = tuple(
            tasks.Answer(
                port.whole_characters(str(choice["message"]["content"] or "")),
                _finish(choice["finish_reason"]),
                _scores(choice.get("logprobs")),
            )
            for choice in answer["choices"]  # type: ignore[attr-defined]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UpstreamFailed("The model's server answered with what is no completion.") from error
    if len(found) != (request.n or 1):
        raise UpstreamFailed(f"The model's server answered with {len(found)} completions, and {request.n or 1} were asked for.")
    return _counted(tasks.Generated(found), answer, request, sum(len(choice.text.encode()) for choice in found))


def vectors(answer: dict[str, object], request: tasks.Embed) -> Result:
    """Return the vectors of a request's texts, in their order. Raises UpstreamFailed."""
    try:
        rows = sorted(answer["data"], key=lambda row: row["index"])  # type: ignore[call-overload]
        found = np.array([_vector(row["embedding"]) for row in rows], dtype="<f4")
        if len(rows) != len(request.input) or found.ndim != 2:
            raise UpstreamFailed("The model's server answered with other vectors than were asked for.")
    except (KeyError, TypeError, ValueError) as error:
        raise UpstreamFailed("The model's server answered with what are no vectors.") from error
    return _counted(tasks.Embedded(found.tobytes(), int(found.shape[1])), answer, request, None)


def _counted(result: tasks.Result, answer: dict[str, object], request: tasks.Request, answer_bytes: int | None) -> Result:
    """Return the result with the server's counts of tokens, or estimates for those that it does not say.

    answer_bytes: the size of what was generated in UTF-8; None where nothing is.
    """
    told = answer.get("usage")
    known = told if isinstance(told, dict) else {}
    prompt = _tokens(known.get("prompt_tokens"))
    completion = 0 if answer_bytes is None else _tokens(known.get("completion_tokens"))
    return Result(
        result,
        usage.estimate(port.text_bytes(request)) if prompt is None else prompt,
        usage.estimate(answer_bytes or 0) if completion is None else completion,
        estimated=prompt is None or completion is None,
    )


def _tokens(value: object) -> int | None:
    """Return a count that can be one: some servers write 12.0, and some anything."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= types.MAX_TOKENS:
        return None
    return value


def _finish(value: object) -> str:
    return port.whole_characters(str(value))[: port.MAX_FINISH]


def _scores(told: object) -> tuple[tasks.TokenScore, ...]:
    """Return the scores of tokens. Raises UpstreamFailed where they are of another form."""
    match told:
        case {"content": list(entries)}:
            try:
                return tuple(_score(entry) for entry in entries if isinstance(entry, dict))
            except (TypeError, ValueError, AttributeError) as error:
                raise UpstreamFailed("The model's server scores tokens with what are no numbers.") from error
    return ()


def _score(entry: dict[str, object]) -> tasks.TokenScore:
    top = entry.get("top_logprobs") or ()
    likely = [(str(one.get("token", "")), float(one.get("logprob", 0))) for one in top]  # type: ignore[attr-defined]
    return port.score(str(entry.get("token", "")), float(entry.get("logprob", 0)), likely)  # type: ignore[arg-type]


def _vector(value: object) -> object:
    return np.frombuffer(base64.b64decode(value), dtype="<f4") if isinstance(value, str) else value

"""Length-prefixed msgpack maps over a pipe between the agent and a worker."""

from __future__ import annotations

import asyncio
import struct

from classifiers.onnx.setup import BadModel, NoProvider
from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.port import BadPayload, Choice, ContextExceeded, Overloaded, Piece, Result, TokenScore
from sync.kit import errors
from sync.wire import codec

MAX_FRAME = 64 * 1024 * 1024
Frame = dict[str, object]
_KINDS: tuple[type[errors.RingfenceError], ...] = (BadPayload, ContextExceeded, BadFolder, BadModel, NoProvider)


class WorkerGone(errors.Retryable):
    """The model's process ended: it took more memory than it may, or crashed."""

    code = "model_crashed"


def pack(frame: Frame) -> bytes:
    data = codec.pack(frame)
    return struct.pack(">I", len(data)) + data


async def read(reader: asyncio.StreamReader) -> Frame:
    """The next frame. Raises WorkerGone where the other end is gone, or sends what is no frame."""
    try:
        (size,) = struct.unpack(">I", await reader.readexactly(4))
        if size > MAX_FRAME:
            raise WorkerGone("The model's process sent what is no answer.")
        frame = codec.unpack(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError, errors.Corrupt) as error:
        raise WorkerGone("The model's process ended: it took more memory than it may, or crashed.") from error
    if not isinstance(frame, dict):
        raise WorkerGone("The model's process sent what is no answer.")
    return frame


def of_piece(request: int, piece: Piece) -> Frame:
    return {"kind": "piece", "request": request, "text": piece.text, "choice": piece.choice, "scores": _scores(piece.scores)}


def piece_of(frame: Frame) -> Piece:
    return Piece(str(frame["text"]), int(str(frame["choice"])), _scores_of(frame["scores"]))


def of_result(request: int, result: Result) -> Frame:
    return {
        "kind": "done", "request": request, "fields": result.fields, "prompt": result.prompt_tokens,
        "completion": result.completion_tokens, "reused": result.reused_tokens,
        "choices": [[c.text, c.finish, _scores(c.scores)] for c in result.choices],
    }  # fmt: skip


def result_of(frame: Frame) -> Result:
    choices = tuple(Choice(str(t), str(f), _scores_of(s)) for t, f, s in frame["choices"])  # type: ignore[attr-defined]
    fields = frame["fields"]
    return Result(
        dict(fields) if isinstance(fields, dict) else {}, int(str(frame["prompt"])), int(str(frame["completion"])), choices,
        int(str(frame["reused"])),
    )  # fmt: skip


def of_error(request: int, error: errors.RingfenceError) -> Frame:
    wait = error.retry_after_s if isinstance(error, errors.Retryable) else 0.0
    return {
        "kind": "failed", "request": request, "type": type(error).__name__, "code": error.code, "sentence": str(error)[:2000],
        "wait": wait, "refused": isinstance(error, errors.Refused), "retryable": isinstance(error, errors.Retryable),
    }  # fmt: skip


def error_of(frame: Frame) -> errors.RingfenceError:
    code, sentence = str(frame["code"]), str(frame["sentence"])
    if frame["type"] == Overloaded.__name__:
        return Overloaded(sentence, retry_after_s=float(str(frame["wait"])))
    for kind in _KINDS:
        if frame["type"] == kind.__name__:
            return kind(sentence, code=code)
    if frame["retryable"]:
        return errors.Retryable(sentence, code=code, retry_after_s=float(str(frame["wait"])))
    return (errors.Refused if frame["refused"] else errors.Misconfigured)(sentence, code=code)


def _scores(scores: tuple[TokenScore, ...]) -> list[object]:
    return [[s.token, s.logprob, [list(top) for top in s.top]] for s in scores]


def _scores_of(told: object) -> tuple[TokenScore, ...]:
    return tuple(TokenScore(t, p, tuple((a, b) for a, b in top)) for t, p, top in told)  # type: ignore[attr-defined]

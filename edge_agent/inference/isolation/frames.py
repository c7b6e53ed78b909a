"""Length-prefixed msgpack maps over a pipe between the agent and a worker."""

from __future__ import annotations

import asyncio
import struct

from classifiers.onnx.setup import BadModel, NoProvider
from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.port import BadPayload, ContextExceeded, Overloaded, Piece, Result
from sync.kit import errors
from sync.wire import codec, tasks

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
    return {
        "kind": "piece", "request": request, "text": piece.text, "choice": piece.choice, "tokens": piece.tokens,
        "scores": tasks.pack_scores(piece.scores),
    }  # fmt: skip


def piece_of(frame: Frame) -> Piece:
    """Return the piece in a frame. Raises BadFrame, KeyError or ValueError where it is none."""
    scores = tasks.read_scores(_bytes(frame["scores"]))
    return Piece(str(frame["text"]), int(str(frame["choice"])), scores, int(str(frame["tokens"])))


def of_result(request: int, task: str, result: Result) -> Frame:
    """Return the frame of a result. Raises BadFrame where the engine's answer is none of this task's."""
    answer = tasks.pack(result.answer)
    tasks.read_result(task, answer)  # said here to one caller; the agent would take it as the end of the process
    return {
        "kind": "done", "request": request, "answer": answer, "prompt": result.prompt_tokens,
        "completion": result.completion_tokens, "estimated": result.estimated,
    }  # fmt: skip


def result_of(task: str, frame: Frame) -> Result:
    """Return the result in a frame. Raises BadFrame, KeyError or ValueError where it is none."""
    answer = tasks.read_result(task, _bytes(frame["answer"]))
    return Result(answer, int(str(frame["prompt"])), int(str(frame["completion"])), bool(frame["estimated"]))


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


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise codec.BadFrame("A part of a frame is no bytes.")
    return value

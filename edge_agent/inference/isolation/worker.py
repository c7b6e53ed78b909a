"""The process of one unsigned model: python -m edge_agent.inference.isolation.worker. Speaks frames on standard input and output.

Before anything of the model is opened, its limits are set for good: address space, files that may be written and core dumps (none).
"""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent.inference import manifest as manifests
from edge_agent.inference import opening, port
from edge_agent.inference.isolation import frames
from edge_agent.inference.isolation.frames import Frame
from edge_agent.inference.meters import InferenceMeters
from edge_agent.inference.opening import MIB, Resources
from edge_agent.inference.port import Caller, Engine, Piece, Priority
from sync.kit import errors
from sync.kit.metrics import Registry


class Worker:
    """Answers the agent's frames with one engine."""

    def __init__(self, engine: Engine, task: str, writer: Any) -> None:
        self._engine = engine
        self._task = task
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Until the agent closes the pipe."""
        while True:
            try:
                frame = await frames.read(reader)
            except frames.WorkerGone:
                return
            request = int(str(frame["request"]))
            if frame["kind"] == "run":
                task = self._tasks[request] = asyncio.create_task(self._run(request, frame))
                task.add_done_callback(functools.partial(self._forget, request))
            elif (known := self._tasks.get(request)) is not None:
                known.cancel()

    def _forget(self, request: int, _: asyncio.Task[None]) -> None:
        self._tasks.pop(request, None)

    async def _run(self, request: int, frame: Frame) -> None:
        caller = Caller(str(frame["tenant"]), Priority(int(str(frame["priority"]))))
        emit = _ToAgent(functools.partial(self._send_piece, request), self._writer) if frame["stream"] else None
        try:
            payload = frame["payload"]
            wanted = port.read(str(frame["task"]), payload if isinstance(payload, bytes) else b"")
            self._send(frames.of_result(request, self._task, await self._engine.run(wanted, emit, caller)))
        except errors.RingfenceError as error:
            self._send(frames.of_error(request, error))
        except Exception:
            self._send(frames.of_error(request, errors.Misconfigured("The model failed inside its process.", code="model_failed")))

    def _send_piece(self, request: int, piece: Piece) -> None:
        self._loop.call_soon_threadsafe(self._send, frames.of_piece(request, piece))

    def _send(self, frame: Frame) -> None:
        self._writer.write(frames.pack({**frame, "held": self._engine.held_bytes}))


class _ToAgent:
    """Sends the pieces of one answer to the agent."""

    def __init__(self, send: Callable[[Piece], None], writer: Any) -> None:
        self._send = send
        self._writer = writer

    def __call__(self, piece: Piece) -> None:
        self._send(piece)

    async def room(self) -> None:
        """Wait until the pipe has taken most of what was written."""
        await asyncio.sleep(0)
        await self._writer.drain()


async def main() -> None:
    """Reads how to open the model, says that it is ready, and serves."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=frames.MAX_FRAME)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb"))
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the frames
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, output)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    start = await frames.read(reader)
    folder, resources = Path(str(start["folder"])), _resources(start)
    _limit(resources.worker_mib * MIB)
    try:
        manifest = manifests.read(folder)
        meters = InferenceMeters(Registry()).of(manifest.name)
        engine = await asyncio.to_thread(opening.open_local, folder, manifest, resources, meters)
    except errors.RingfenceError as error:
        writer.write(frames.pack(frames.of_error(0, error)))
        await writer.drain()
        return
    metadata = getattr(engine, "metadata", {})
    writer.write(frames.pack({"kind": "ready", "request": 0, "providers": list(engine.providers), "metadata": metadata}))
    await Worker(engine, manifest.task, writer).serve(reader)
    await engine.close()


def _resources(start: Frame) -> Resources:
    return replace(
        Resources(), threads=int(str(start["threads"])), kv_mib=int(str(start["kv_mib"])), worker_mib=int(str(start["worker_mib"])),
        providers=tuple(start["providers"]), may_fall_back=bool(start["may_fall_back"]),  # type: ignore[arg-type]
    )  # fmt: skip


def _limit(memory: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    asyncio.run(main())
    sys.stderr.flush()
    os._exit(0)  # a library's threads must not keep the process

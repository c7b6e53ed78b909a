"""The agent's end of a worker: an engine whose work is done in another process.

Invariants, each with a test of its words:
- a model that takes more memory than it may ends its own process, and nobody else's;
- its callers are told, and the next request starts it again;
- the worker gets none of the agent's environment, and ends with the agent.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from edge_agent.inference.isolation import frames
from edge_agent.inference.isolation.frames import Frame, WorkerGone
from edge_agent.inference.manifest import Manifest
from edge_agent.inference.meters import ModelMeters
from edge_agent.inference.opening import Resources
from edge_agent.inference.port import Caller, Emit, Result
from sync.kit import errors, logs
from sync.wire import tasks

log = logs.get("isolation")
START_S = 120.0
STOP_S = 5.0
KEPT_ENVIRONMENT = ("PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT")


class Isolated:
    """One unsigned model in its worker."""

    def __init__(self, folder: Path, manifest: Manifest, resources: Resources, meters: ModelMeters) -> None:
        self._folder = folder
        self._manifest = manifest
        self._resources = resources
        self._meters = meters
        self._numbers = itertools.count(1)
        self._open: dict[int, tuple[asyncio.Future[Result], Emit | None]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self.providers: tuple[str, ...] = ()
        self.metadata: dict[str, object] = {}
        self.held_bytes = 0

    @property
    def running(self) -> int:
        return len(self._open)

    async def start(self) -> None:
        """Starts the worker and waits until the model is open. Raises what the worker refuses with, or WorkerGone."""
        environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        environment.update(ORT_DISABLE_TELEMETRY="1", MALLOC_ARENA_MAX="2", OMP_NUM_THREADS="1")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge_agent.inference.isolation.worker", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=environment, limit=frames.MAX_FRAME,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None  # noqa: S101 - both are pipes
        resources = self._resources
        start: Frame = {
            "folder": str(self._folder.resolve()), "threads": resources.threads, "kv_mib": resources.kv_mib,
            "worker_mib": resources.worker_mib, "providers": list(resources.providers), "may_fall_back": resources.may_fall_back,
        }  # fmt: skip
        try:
            process.stdin.write(frames.pack(start))
            async with asyncio.timeout(START_S):
                ready = await frames.read(process.stdout)
        except (WorkerGone, TimeoutError, ConnectionError) as error:
            _kill(process)
            await process.wait()
            raise errors.Misconfigured(
                f"The model '{self._manifest.name}' does not open within {resources.worker_mib} MiB: it is damaged, or needs "
                f"a higher "
                "RINGFENCE_AGENT_WORKER_MIB.",
                code="model_crashed",
            ) from error
        except BaseException:
            _kill(process)  # whoever asked has gone away: nobody would end it
            raise
        if ready["kind"] == "failed":
            await process.wait()
            raise frames.error_of(ready)
        self.providers = tuple(map(str, ready["providers"]))  # type: ignore[call-overload]
        metadata = ready["metadata"]
        self.metadata = metadata if isinstance(metadata, dict) else {}
        self._process = process
        self._reading = asyncio.create_task(self._read(process), name=f"worker {self._manifest.name}")

    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        async with self._starting:
            if self._closed:
                raise WorkerGone("The model is being closed.")
            if self._process is None:
                await self.start()
        process = self._process
        if process is None or process.stdin is None:
            raise WorkerGone("The model's process ended.")
        number = next(self._numbers)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._open[number] = future, emit
        try:
            frame: Frame = {"kind": "run", "request": number, "task": request.TASK, "payload": tasks.pack(request)}
            asked: Frame = {"stream": emit is not None, "tenant": caller.tenant, "priority": int(caller.priority)}
            process.stdin.write(frames.pack({**frame, **asked}))
            await process.stdin.drain()
            return await future
        except asyncio.CancelledError:
            if not process.stdin.is_closing():
                process.stdin.write(frames.pack({"kind": "cancel", "request": number}))
            self._meters.cancelled("decode" if self._manifest.task == "generate" else "encode")
            raise
        except ConnectionError as error:
            raise WorkerGone("The model's process ended.") from error
        finally:
            self._open.pop(number, None)

    async def close(self) -> None:
        self._closed = True
        if self._process is not None:
            _kill(self._process)
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=STOP_S)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Hands on what the worker says, until it ends."""
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        gone = WorkerGone(
            f"The process of the model '{self._manifest.name}' ended: it took more memory than it may, or crashed.", retry_after_s=1
        )
        try:
            while True:
                self._take(await frames.read(process.stdout))
        except (WorkerGone, errors.Corrupt, KeyError, ValueError, TypeError):
            if not self._closed:
                log.error("worker_ended", model=self._manifest.name)
        finally:
            self._process = None
            _kill(process)
            for future, _ in list(self._open.values()):
                if not future.done():
                    future.set_exception(gone)
            await process.wait()

    def _take(self, frame: Frame) -> None:
        self.held_bytes = int(str(frame.get("held", 0)))
        known = self._open.get(int(str(frame["request"])))
        if known is None:
            return
        future, emit = known
        match frame["kind"]:
            case "piece" if emit is not None:
                emit(frames.piece_of(frame))
            case "done" if not future.done():
                future.set_result(frames.result_of(self._manifest.task, frame))
            case "failed" if not future.done():
                future.set_exception(frames.error_of(frame))


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            return

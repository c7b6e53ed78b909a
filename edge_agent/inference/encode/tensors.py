"""Models of any kind, by the tensors of the Open Inference Protocol, version 2: vision, tabular, audio."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from classifiers.onnx.session import Array, Dims, Session, Stop
from classifiers.onnx.setup import Setup
from edge_agent.inference import port, settling
from edge_agent.inference.encode.batcher import EncodeBatcher, Job, Row
from edge_agent.inference.encode.engine import MODEL
from edge_agent.inference.manifest import Manifest
from edge_agent.inference.meters import ModelMeters
from edge_agent.inference.port import BadPayload, Caller, Emit, Result
from edge_agent.inference.queue import FairQueue
from sync.wire import tasks

MAX_ELEMENTS = 16 * 1024 * 1024
DTYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8", "INT16": "int16",
    "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "object",
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Tensors:
    """One loaded model of any kind. A request runs by itself: its tensors are a batch already."""

    def __init__(self, folder: Path, manifest: Manifest, setup: Setup, *, threads: int, meters: ModelMeters) -> None:
        self._manifest = manifest
        self._session = Session(folder / MODEL, setup)
        self.providers = self._session.providers
        queue: FairQueue[Job] = FairQueue(most=manifest.queue, most_s=manifest.queue_s)
        self._batcher = EncodeBatcher(
            manifest.name, self._run_one, threads=threads, queue=queue, pads=False, wait_s=0, meters=meters
        )

    @property
    def running(self) -> int:
        return self._batcher.running

    @property
    def held_bytes(self) -> int:
        return 0

    @property
    def metadata(self) -> dict[str, object]:
        """The model's inputs and outputs as the protocol's metadata tells them: -1 for a size that is open."""
        session = self._session
        return {
            "inputs": [_told(name, *session.input_type(name)) for name in session.inputs],
            "outputs": [_told(name, *session.output_type(name)) for name in session.outputs],
        }

    async def run(self, request: tasks.Request, emit: Emit | None, caller: Caller) -> Result:
        if not isinstance(request, tasks.Tensors):
            raise port.not_for(self._manifest.name, tasks.Tensors.TASK)
        feeds = await asyncio.to_thread(self._feeds, request.inputs)
        wanted = request.outputs or self._session.outputs
        if any(name not in self._session.outputs for name in wanted):
            raise BadPayload(f"outputs: the model '{self._manifest.name}' gives {', '.join(self._session.outputs)}.")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        job = Job(deque([Row(0, 1_000_000, (feeds, list(wanted)))]), caller, settling.settler(future))
        self._batcher.submit(job)
        try:
            await future
        except asyncio.CancelledError:
            self._batcher.cancel(job)
            raise
        arrays = job.results[0]
        return Result(tasks.Inferred(await asyncio.to_thread(_outputs, wanted, arrays)), 0)

    async def close(self) -> None:
        await asyncio.to_thread(self._batcher.close)

    def _run_one(self, rows: Sequence[Row], stop: Stop) -> Sequence[Array]:
        feeds, wanted = rows[0].value
        return [self._session.run(feeds, stop, wanted)]  # type: ignore[list-item]

    def _feeds(self, inputs: Sequence[tasks.Tensor]) -> dict[str, Array]:
        """Return the arrays of the request's inputs. Raises BadPayload naming the one that does not fit."""
        feeds = {tensor.name: self._array(tensor) for tensor in inputs}
        missing = next((name for name in self._session.inputs if name not in feeds), None)
        if missing is not None:
            raise BadPayload(f"inputs: the model '{self._manifest.name}' also wants '{missing}'.")
        return feeds

    def _array(self, tensor: tasks.Tensor) -> Array:
        name, kind, shape, data = tensor.name, tensor.datatype, tensor.shape, tensor.data
        if name not in self._session.inputs:
            raise BadPayload(
                f"inputs: the model '{self._manifest.name}' takes {', '.join(self._session.inputs)}, not '{name[:100]}'."
            )
        dims, dtype = self._session.input_type(name)
        if DTYPES.get(kind) != dtype:
            raise BadPayload(f"inputs: '{name}' is {NAMES.get(dtype, dtype)}, not {kind[:20]}.")
        fits = len(shape) == len(dims) and all(
            not isinstance(dim, int) or dim == size for dim, size in zip(dims, shape, strict=True)
        )
        if not fits:
            raise BadPayload(f"inputs: '{name}' has the shape {_open(dims)} (-1: any size), not {list(shape)}.")
        count = math.prod(shape)
        if count > MAX_ELEMENTS or count != len(data):
            raise BadPayload(f"inputs: '{name}' of this shape has {count} elements (at most {MAX_ELEMENTS}), and {len(data)} came.")
        if kind == "BYTES" and not all(isinstance(element, str) for element in data):
            raise BadPayload(f"inputs: an element of '{name}' is no text.")
        try:
            return np.array(data, dtype=dtype).reshape(shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise BadPayload(f"inputs: an element of '{name}' is no {kind}.") from error


def _outputs(names: Sequence[str], arrays: Sequence[Array]) -> tuple[tasks.Tensor, ...]:
    return tuple(
        tasks.Tensor(name, NAMES.get(str(array.dtype), "BYTES"), tuple(array.shape), tuple(array.ravel().tolist()))
        for name, array in zip(names, arrays, strict=True)
    )


def _told(name: str, dims: Dims, dtype: str) -> dict[str, object]:
    return {"name": name, "datatype": NAMES.get(dtype, dtype), "shape": _open(dims)}


def _open(dims: Dims) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in dims]

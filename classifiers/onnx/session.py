"""Sessions over ONNX files: loaded with telemetry off, named providers and a fixed number of threads; run off the event loop."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# onnxruntime writes and queues telemetry unless this is set before its first import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from sync.kit import errors

Array = npt.NDArray[Any]
PROVIDERS = ("CPUExecutionProvider",)
FATAL_ONLY = 4


class BadModel(errors.Misconfigured):
    """The file is no ONNX model that can be run here."""

    code = "bad_model"


class Cancelled(errors.Retryable):
    """The run was stopped before its end."""

    code = "cancelled"


class Stop:
    """The switch that stops a run in its middle, from any thread."""

    def __init__(self) -> None:
        self._options = ort.RunOptions()
        self._options.log_severity_level = FATAL_ONLY
        self.asked = False

    def now(self) -> None:
        self.asked = True
        self._options.terminate = True

    @property
    def options(self) -> Any:
        return self._options


class Session:
    """One loaded model. `run` may be called from several threads."""

    def __init__(self, path: Path, *, threads: int, spinning: bool = False) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = FATAL_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=list(PROVIDERS))
        except Exception as error:
            raise BadModel(f"The model file {path} cannot be loaded: it is damaged, or not an ONNX model.") from error
        self.inputs = tuple(node.name for node in self._session.get_inputs())
        self.outputs = tuple(node.name for node in self._session.get_outputs())
        self.providers = tuple(self._session.get_providers())

    def run(self, feeds: Mapping[str, Array], stop: Stop | None = None) -> list[Array]:
        """All outputs, in the model's order. Raises Cancelled or BadModel."""
        try:
            found: list[Array] = self._session.run(None, dict(feeds), stop.options if stop else None)
        except Exception as error:
            raise _failed(stop) from error
        return found

    def bind(self, state: Mapping[tuple[str, str], Array]) -> Binding:
        """A binding that keeps these buffers: each is read as the input and written as the output of its two names."""
        return Binding(self._session, state)


class Binding:
    """Runs one session over buffers that stay in place, such as a KV cache."""

    def __init__(self, session: Any, state: Mapping[tuple[str, str], Array]) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._kept = []
        for (read_as, written_as), buffer in state.items():
            value = ort.OrtValue.ortvalue_from_numpy(buffer)
            self._binding.bind_ortvalue_input(read_as, value)
            self._binding.bind_ortvalue_output(written_as, value)
            self._kept.append((value, buffer))

    def run(self, feeds: Mapping[str, Array], output: str, stop: Stop) -> Array:
        """One output. Raises Cancelled or BadModel."""
        binding = self._binding
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(output, "cpu")
        try:
            self._session.run_with_iobinding(binding, stop.options)
        except Exception as error:
            raise _failed(stop) from error
        found: Array = binding.get_outputs()[-1].numpy()  # outputs come in the order of binding, and this one was last
        return found


def _failed(stop: Stop | None) -> errors.RingfenceError:
    if stop is not None and stop.asked:
        return Cancelled("The run was cancelled.")
    return BadModel("The model failed while it ran: it does not fit its manifest, or there is not enough memory.")


def softmax(logits: Array) -> Array:
    """Along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def pad(rows: Sequence[Sequence[int]], value: int) -> tuple[Array, Array]:
    """(ids, mask), both int64 [rows, longest]: shorter rows are filled on the right."""
    width = max(map(len, rows))
    ids = np.full((len(rows), width), value, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask

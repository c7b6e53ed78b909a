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

from classifiers.onnx.setup import CPU, BadModel, Cancelled, NoProvider, Setup
from sync.kit import errors

Array = npt.NDArray[Any]
VERSION: str = ort.__version__
FATAL_ONLY = 4
_DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(bool)": "bool",
    "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(int16)": "int16", "tensor(int8)": "int8",
    "tensor(uint64)": "uint64", "tensor(uint32)": "uint32", "tensor(uint16)": "uint16", "tensor(uint8)": "uint8",
    "tensor(string)": "object",
}  # fmt: skip
Dims = tuple[int | str | None, ...]
"""A shape: a number, or the name of a size that is open, or None."""


class Stop:
    """The switch that stops a run in its middle, from any thread."""

    def __init__(self) -> None:
        self._options = ort.RunOptions()
        self._options.log_severity_level = FATAL_ONLY
        self.asked = False

    def now(self) -> None:
        self.asked = True
        self._options.terminate = True

    def shrink_after(self) -> None:
        """Gives back what runs with this switch make the arena take: after a large one it would stay for ever."""
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @property
    def options(self) -> Any:
        return self._options


def available_providers() -> tuple[str, ...]:
    """The execution providers that this installation has. The one that would send work to a cloud is not counted."""
    return tuple(name for name in ort.get_available_providers() if name != "AzureExecutionProvider")


class Session:
    """One loaded model. `run` may be called from several threads."""

    def __init__(self, path: Path, setup: Setup) -> None:
        self._session = _open(path, setup)
        self._inputs = {node.name: (_dims(node.shape), _DTYPES.get(node.type, node.type)) for node in self._session.get_inputs()}
        self._outputs = {node.name: (_dims(node.shape), _DTYPES.get(node.type, node.type)) for node in self._session.get_outputs()}
        self.inputs = tuple(self._inputs)
        self.outputs = tuple(self._outputs)
        self.providers = tuple(self._session.get_providers())

    def input_type(self, name: str) -> tuple[Dims, str]:
        """The shape and the numpy dtype of an input."""
        return self._inputs[name]

    def output_type(self, name: str) -> tuple[Dims, str]:
        return self._outputs[name]

    def run(self, feeds: Mapping[str, Array], stop: Stop | None = None, outputs: Sequence[str] | None = None) -> list[Array]:
        """These outputs, or all in the model's order. Raises Cancelled or BadModel."""
        try:
            found: list[Array] = self._session.run(outputs, dict(feeds), stop.options if stop else None)
        except Exception as error:
            raise _failed(stop) from error
        return found

    def bind(self, state: Mapping[tuple[str, str], Array], into: tuple[str, Array] | None = None) -> Binding:
        """A binding that keeps these buffers: each is read as the input and written as the output of its two names.

        `into`: an output and the buffer that each run writes it to, for runs whose shape is known.
        """
        return Binding(self._session, state, into)


class Binding:
    """Runs one session over buffers that stay in place, such as a KV cache."""

    def __init__(self, session: Any, state: Mapping[tuple[str, str], Array], into: tuple[str, Array] | None = None) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._kept = []
        self._into = into
        if into is not None:
            name, buffer = into
            value = ort.OrtValue.ortvalue_from_numpy(buffer)
            self._binding.bind_ortvalue_output(name, value)
            self._kept.append((value, buffer))
        for (read_as, written_as), buffer in state.items():
            value = ort.OrtValue.ortvalue_from_numpy(buffer)
            self._binding.bind_ortvalue_input(read_as, value)
            self._binding.bind_ortvalue_output(written_as, value)
            self._kept.append((value, buffer))

    def run(self, feeds: Mapping[str, Array], output: str, stop: Stop) -> Array:
        """One output; where it has a buffer, that one, until the next run. Raises Cancelled or BadModel."""
        binding = self._binding
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        if self._into is None:
            binding.bind_output(output, "cpu")
        try:
            self._session.run_with_iobinding(binding, stop.options)
        except Exception as error:
            raise _failed(stop) from error
        if self._into is not None:
            return self._into[1]
        found: Array = binding.get_outputs()[-1].numpy()  # outputs come in the order of binding, and this one was last
        return found


def _open(path: Path, setup: Setup) -> Any:
    """onnxruntime's session, over the optimised graph where that is kept already. Raises BadModel or NoProvider."""
    providers, kept = list(_chosen(setup)), setup.optimised
    if kept is not None and kept.is_file():
        options = _options(setup)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return ort.InferenceSession(str(kept), options, providers=providers)
        except Exception:
            kept.unlink(missing_ok=True)  # it is a convenience: made anew
    options = _options(setup)
    beside = kept.with_suffix(".new.onnx") if kept else None
    if beside is not None:
        options.optimized_model_filepath = str(beside)
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise BadModel(f"The model file {path} cannot be loaded: it is damaged, or not an ONNX model.") from error
    if beside is not None and kept is not None and beside.is_file():
        beside.replace(kept)
    return session


def _chosen(setup: Setup) -> tuple[str, ...]:
    """The wanted providers that are there. Raises NoProvider."""
    there = available_providers()
    chosen = tuple(name for name in setup.providers if name in there)
    if not chosen and setup.may_fall_back:
        return (CPU,)
    if not chosen or (chosen[0] != setup.providers[0] and not setup.may_fall_back):
        raise NoProvider(
            f"The execution provider {setup.providers[0]} is not there: this onnxruntime has {', '.join(there)}. Install the "
            f"onnxruntime "
            "package that has it, name another one, or allow to fall back."
        )
    return chosen


def _options(setup: Setup) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = setup.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if setup.spinning else "0")
    return options


def _dims(shape: Sequence[Any]) -> Dims:
    return tuple(size if isinstance(size, (int, str)) else None for size in shape)


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

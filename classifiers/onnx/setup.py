"""How a session runs, and what can be wrong with it: without onnxruntime, for processes that may never load a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sync.kit import errors

CPU = "CPUExecutionProvider"


class BadModel(errors.Misconfigured):
    """The file is no ONNX model that can be run here."""

    code = "bad_model"


class NoProvider(errors.Misconfigured):
    """None of the wanted execution providers is there."""

    code = "execution_provider_unavailable"


class Cancelled(errors.Retryable):
    """The run was stopped before its end."""

    code = "cancelled"


@dataclass(frozen=True, slots=True)
class Setup:
    """How a session runs.

    `spinning`: threads that wait burn a core for a lower latency: only where no other session shares the cores. `providers`:
    execution providers in the order of preference; `may_fall_back`: whether the CPU will do where none of them is there.
    `optimised`: where to keep the optimised graph of a model that takes long to load; it fits this machine and this
    onnxruntime alone.
    """

    threads: int = 1
    spinning: bool = False
    providers: tuple[str, ...] = (CPU,)
    may_fall_back: bool = False
    optimised: Path | None = None

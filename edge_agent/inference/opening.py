"""From a version on disk to an engine: in this process where the hub signed it, in a bounded one of its own where it was only
trusted."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from dataclasses import dataclass, field
from pathlib import Path

from classifiers.onnx.setup import CPU, Setup
from edge_agent.inference import scan
from edge_agent.inference.generate import config
from edge_agent.inference.manifest import BadFolder, Manifest
from edge_agent.inference.meters import ModelMeters
from edge_agent.inference.noop import Noop
from edge_agent.inference.port import Engine
from sync.crypto import digest

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resources:
    """What one model may use. Bytes are MiB here; `optimised`: a private folder for optimised graphs, None for none."""

    threads: int = 1
    alone: bool = False
    """Whether no other model shares the cores."""
    kv_mib: int = 512
    worker_mib: int = 4096
    providers: tuple[str, ...] = (CPU,)
    may_fall_back: bool = False
    optimised: Path | None = None
    egress: tuple[str, ...] = field(default=())
    """Where upstream servers may be: see egress.py."""


def open_local(folder: Path, manifest: Manifest, resources: Resources, meters: ModelMeters) -> Engine:
    """The engine of a model with files, in this process. Blocks. Raises BadFolder, BadModel or NoProvider."""
    config.refuse_hostile(folder)
    for name in manifest.files:
        if name.endswith(".onnx"):
            scan.check(folder / name)
    # Imported with the first model: an agent without any is a quarter smaller.
    from edge_agent.inference.encode.engine import Embedder, LabelClassifier, Reranker  # noqa: PLC0415
    from edge_agent.inference.encode.tensors import Tensors  # noqa: PLC0415
    from edge_agent.inference.generate.engine import Generator  # noqa: PLC0415

    if manifest.task == "generate":
        setup = _setup(manifest, resources, threads=manifest.threads or resources.threads)
        return Generator(folder, manifest, setup, kv_bytes=resources.kv_mib * MIB, meters=meters)
    if "model.onnx" not in manifest.files:
        raise BadFolder(f"{folder} has no model.onnx.")
    # Encoders: so many callers with one thread each, which on a CPU beats one caller with so many threads.
    setup, threads = _setup(manifest, resources, threads=1), manifest.threads or resources.threads
    match manifest.task:
        case "embed":
            return Embedder(folder, manifest, setup, threads=threads, meters=meters)
        case "classify":
            return LabelClassifier(folder, manifest, setup, threads=threads, meters=meters)
        case "rerank":
            return Reranker(folder, manifest, setup, threads=threads, meters=meters)
        case "tensors":
            return Tensors(folder, manifest, setup, threads=threads, meters=meters)


def open_plain(manifest: Manifest) -> Noop:
    """The engine that computes nothing."""
    return Noop(manifest.noop)


def _setup(manifest: Manifest, resources: Resources, *, threads: int) -> Setup:
    spinning = resources.alone and threads > 1 if manifest.spinning is None else manifest.spinning
    return Setup(
        threads=threads, spinning=spinning, providers=tuple(manifest.providers) or resources.providers,
        may_fall_back=resources.may_fall_back, optimised=_optimised(manifest, resources),
    )  # fmt: skip


def _optimised(manifest: Manifest, resources: Resources) -> Path | None:
    """Where the optimised graph of an encoder is kept: by its files, this onnxruntime and this machine's processor.

    Decoders have none: their files are built of the operators that the optimiser would make.
    """
    if resources.optimised is None or manifest.task == "generate":
        return None
    known = f"{manifest.digest}/{importlib.metadata.version('onnxruntime')}/{_processor()}"
    return resources.optimised / f"{digest.of('optimised-graph', known.encode()).hex()}.onnx"


@functools.cache
def _processor() -> str:
    """The processor's name and abilities: the optimiser chooses kernels by them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))

"""What of the models folder is loaded: on first use, once however many ask, warmed up, swapped and evicted without losing a
request.

Invariants, each with a test of its words:
- a model is loaded once, however many ask for it;
- a model at work is never closed: who uses it holds a lease, and it is closed when the last one is given back;
- a pinned model is never evicted;
- a version that cannot be loaded leaves the one that serves in its place;
- a request is served by one version, from its beginning to its end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.inference import manifest as manifests
from edge_agent.inference import opening
from edge_agent.inference.isolation.process import Isolated
from edge_agent.inference.manifest import BadFolder, Manifest
from edge_agent.inference.meters import InferenceMeters, ModelMeters
from edge_agent.inference.opening import MIB, Resources
from edge_agent.inference.port import Caller, Engine, Overloaded
from edge_agent.inference.repository import folder as folders
from edge_agent.inference.repository import trust
from edge_agent.inference.repository.folder import ModelsFolder, Version
from edge_agent.inference.repository.trust import Standing
from sync.crypto.signing import PublicKey
from sync.kit import errors, logs
from sync.kit.metrics import Registry
from sync.wire import tasks

log = logs.get("repository")
RETRY_S = 30.0
"""Seconds after which a model that could not be loaded is tried again."""
WATCH_S = 1.0
WARM_UP = Caller("warm-up")
STUCK_S = 120.0
"""Seconds without a step, a prefilled piece or an end, after which a model at work counts as one that hangs."""


class Stuck(errors.RingfenceError):
    """A model hangs: only another process helps."""

    code = "model_stuck"


class NoSuchModel(errors.Retryable):
    """This agent does not have the model: another may."""

    code = "model_not_here"


class Unusable(errors.Retryable):
    """The model is here and cannot be loaded: another agent's may. The agent's log says why."""

    code = "model_unusable"


@dataclass(slots=True, eq=False)
class Loaded:
    """A model that is ready. `digest` is over all its files; `bytes` what it takes with them; `leases` who uses it now."""

    manifest: Manifest
    engine: Engine
    digest: str
    bytes: int
    standing: Standing
    leases: int = 0
    used_at: float = 0.0
    retired: bool = False
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """`models_mib`: what all loaded models may take together, 0 for no limit."""

    models_mib: int = 0


class Repository:
    """What is in the models folder, and what of it is loaded."""

    def __init__(
        self, folder: ModelsFolder, *, hub: PublicKey | None, resources: Resources, limits: Limits | None = None,
        meters: InferenceMeters | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._hub = hub
        self._resources = resources
        self._limits = limits or Limits()
        self._meters = meters or InferenceMeters(Registry())
        self._found: dict[str, Version] = {}
        self._loaded: dict[str, Loaded] = {}
        self._loading: dict[str, asyncio.Task[Loaded]] = {}
        self._failed: dict[str, tuple[float, str, str]] = {}
        self._retired: set[Loaded] = set()
        self._room = asyncio.Lock()
        self.mistakes: list[str] = []

    def scan(self) -> list[str]:
        """Looks at the folder; a sentence for each model that cannot be used. Raises BadFolder where there is no folder."""
        mistakes, found = [], {}
        for name in self.folder.names():
            try:
                version = self.folder.find(name)
                trust.must_be_known(version, self._hub)
                found[name] = version
            except BadFolder as error:
                mistakes.append(str(error))
                if name in self._loaded and self.folder.versions(name):
                    found[name] = self._found[name]  # what serves goes on
        self._found = found
        self.mistakes = mistakes
        return mistakes

    @property
    def names(self) -> tuple[str, ...]:
        """The models that can be asked for: what failed to load is left out until it is tried again."""
        now = time.monotonic()
        return tuple(name for name in self._found if name in self._loaded or self._failed.get(name, (0.0, "", ""))[0] <= now)

    @property
    def running(self) -> int:
        """Requests at work or waiting in all models."""
        return sum(model.engine.running for model in self._loaded.values())

    def status(self) -> list[dict[str, object]]:
        """How each model is, for people: loaded or not, since when, on what."""
        told: list[dict[str, object]] = []
        for name, version in self._found.items():
            model = self._loaded.get(name)
            state = "loaded" if model else "loading" if name in self._loading else "failed" if name in self._failed else "on disk"
            entry: dict[str, object] = {
                "name": name,
                "version": version.manifest.version,
                "task": version.manifest.task,
                "state": state,
            }
            if model is not None:
                entry |= {
                    "version": model.manifest.version, "running": model.engine.running, "mib": round(model.bytes / MIB),
                    "kv_mib": round(model.engine.held_bytes / MIB), "providers": list(model.engine.providers),
                    "standing": model.standing.value,
                }  # fmt: skip
            elif name in self._failed:
                entry["why"] = self._failed[name][2]
            told.append(entry)
        return told

    def manifest(self, name: str) -> Manifest:
        """The manifest of a model here, loaded or not. Raises NoSuchModel."""
        found = self._found.get(name)
        if found is None:
            raise NoSuchModel(f"This agent has no model folder '{name[:100]}'.")
        return found.manifest

    def check_moves(self) -> None:
        """Raises Stuck where a model of this process has work, and has done nothing of it for STUCK_S."""
        now = time.monotonic()
        for name, model in self._loaded.items():
            here = not isinstance(model.engine, Isolated) and model.manifest.backend == "onnx"
            if here and model.leases and model.engine.running and now - self._meters.of(name).moved_at > STUCK_S:
                raise Stuck(f"The model '{name}' has had work for {STUCK_S:.0f} s, and does nothing.")

    def smallest(self) -> str:
        """The model by which this machine's engine is tried the quickest: one of its own where there is one; empty without any."""

        def cost(name: str) -> tuple[bool, int]:
            version = self._found[name]
            return version.manifest.backend != "onnx", folders.bytes_of(version)

        return min(self.names, key=cost, default="")

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[Loaded]:
        """The model, loaded on first use, which stays while the lease is held. Raises NoSuchModel, Unusable or Overloaded."""
        model = await self._get(name)
        while model.closed:  # evicted or swapped in the moment between its loading and here
            model = await self._get(name)
        meters = self._meters.of(name)
        if not model.leases:
            meters.moved()
        model.leases += 1
        model.used_at = time.monotonic()
        outcome = "cancelled"
        try:
            yield model
            outcome = "answered"
        except Exception:
            outcome = "failed"
            raise
        finally:
            meters.ended(outcome)
            model.leases -= 1
            model.used_at = time.monotonic()
            if model.retired and not model.leases:
                await self._close(model)

    async def preload(self) -> list[str]:
        """Loads the pinned models before the first request; a sentence for each that cannot be."""
        mistakes = []
        for name, version in list(self._found.items()):
            if version.state.pinned:
                try:
                    await self._get(name)
                except errors.RingfenceError as error:
                    mistakes.append(str(error))
        return mistakes

    async def watch(self) -> None:
        """Follows what an administrator does to the folder: other versions, new models, removed ones. Runs until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Looks at the folder again, and swaps what changed: beside, warm, switched, drained."""
        before = {name: version.manifest.digest + version.manifest.version for name, version in self._found.items()}
        await asyncio.to_thread(self.scan)
        for name, version in list(self._found.items()):
            now = version.manifest.digest + version.manifest.version
            if before.get(name) not in (None, now):
                self._failed.pop(name, None)
                if name in self._loaded:
                    await self._swap(name)
        for name in [name for name in self._loaded if name not in self._found]:
            log.info("model_removed", model=name)
            await self._retire(self._loaded.pop(name))
        for name, model in self._loaded.items():
            self._meters.held_bytes.labels(name).set(model.engine.held_bytes)
            self._meters.waiting.labels(name).set(model.engine.running)

    async def close(self) -> None:
        """Closes everything, whatever is at work."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        models = [*self._loaded.values(), *self._retired]
        self._loaded.clear()
        for model in models:
            await self._close(model)

    async def evict(self, name: str) -> bool:
        """Takes a model out of memory, where nobody uses it; whether it did."""
        model = self._loaded.get(name)
        if model is None or model.leases:
            return False
        del self._loaded[name]
        self._meters.evictions.labels(name).inc()
        for gauge in (self._meters.loaded_bytes, self._meters.held_bytes):
            gauge.labels(name).set(0)
        await self._close(model)
        log.info("model_evicted", model=name)
        return True

    async def _get(self, name: str) -> Loaded:
        known = self._loaded.get(name)
        if known is not None:
            return known
        self.manifest(name)
        failed = self._failed.get(name)
        if failed is not None and failed[0] > time.monotonic():
            raise Unusable(f"The model '{name}' cannot be loaded here.", code=failed[1], retry_after_s=RETRY_S)
        task = self._loading.get(name)
        if task is None:
            task = self._loading[name] = asyncio.create_task(self._load(name), name=f"load {name}")
            task.add_done_callback(lambda done: _forget(self._loading, name, done))
        return await asyncio.shield(task)

    async def _load(self, name: str) -> Loaded:
        """Opens and warms a model, having made room for it. Raises Unusable or Overloaded."""
        version = self._found[name]
        try:
            async with self._room:
                await self._make_room(name, folders.bytes_of(version))
                model = await self._open(version)
                self._loaded[name] = model
        except Overloaded:
            raise
        except Exception as error:
            code, why = "model_failed", type(error).__name__
            if isinstance(error, errors.RingfenceError):
                code, why = error.code, str(error)
            self._failed[name] = time.monotonic() + RETRY_S, code, why
            log.error("model_unusable", model=name, version=version.manifest.version, code=code, detail=why)
            raise Unusable(f"The model '{name}' cannot be loaded here.", retry_after_s=RETRY_S) from error
        self._failed.pop(name, None)
        return model

    async def _open(self, version: Version) -> Loaded:
        """A warm model. Raises what opening raises; then nothing is left of it."""
        manifest, began, before = version.manifest, time.perf_counter(), _resident_mib()
        meters = self._meters.of(manifest.name)
        standing = await asyncio.to_thread(trust.must_be_known, version, self._hub)
        engine = await self._engine(version, standing, meters)
        try:
            await _warm(engine, manifest)
        except BaseException:
            await engine.close()
            raise
        took = time.perf_counter() - began
        self._meters.loads.labels(manifest.name).observe(took)
        size = folders.bytes_of(version)
        self._meters.loaded_bytes.labels(manifest.name).set(size)
        log.info(
            "model_loaded", model=manifest.name, version=manifest.version, task=manifest.task, seconds=round(took, 2),
            mib=round(_resident_mib() - before, 1),
            providers=engine.providers, standing=standing.value,
        )  # fmt: skip
        return Loaded(manifest, engine, manifest.digest, size, standing, used_at=time.monotonic())

    async def _engine(self, version: Version, standing: Standing, meters: ModelMeters) -> Engine:
        manifest = version.manifest
        match manifest.backend:
            case "noop":
                return opening.open_plain(manifest)
            case "upstream":
                from edge_agent.inference.upstream.engine import Upstream  # noqa: PLC0415 - where there is one

                return Upstream(manifest, self._resources.egress, meters)
        await asyncio.to_thread(manifests.check, version.path, manifest)
        resources = replace(self._resources, alone=not self._loaded)
        if standing is Standing.SIGNED:
            return await asyncio.to_thread(opening.open_local, version.path, manifest, resources, meters)
        isolated = Isolated(version.path, manifest, resources, meters)
        await isolated.start()
        return isolated

    async def _make_room(self, name: str, needed: int) -> None:
        """Evicts what was used least lately, until the model fits. Raises Overloaded where the others are at work or pinned."""
        most = self._limits.models_mib * MIB
        if not most:
            return
        if needed > most:
            raise BadFolder(
                f"The model '{name}' takes {needed // MIB} MiB, and all models here may take {self._limits.models_mib}: "
                "raise RINGFENCE_AGENT_MODELS_MIB."
            )
        while sum(model.bytes for model in self._loaded.values()) + needed > most:
            idle = [n for n, model in self._loaded.items() if not model.leases and not self._is_pinned(n)]
            if not idle:
                raise Overloaded(f"There is no room for the model '{name}': the others are at work or pinned.", retry_after_s=5)
            await self.evict(min(idle, key=lambda n: self._loaded[n].used_at))

    def _is_pinned(self, name: str) -> bool:
        version = self._found.get(name)
        return version is not None and version.state.pinned

    async def _swap(self, name: str) -> None:
        """Puts another version in the place of the one that serves, which ends what it has begun."""
        version = self._found[name]
        try:
            fresh = await self._open(version)
        except errors.RingfenceError as error:
            sentence = f"The version {version.manifest.version} of '{name}' cannot be loaded, and the one before serves on: {error}"
            self.mistakes.append(sentence)
            log.error("swap_failed", model=name, version=version.manifest.version, code=error.code, detail=str(error))
            return
        old = self._loaded.get(name)
        self._loaded[name] = fresh
        log.info("model_swapped", model=name, version=version.manifest.version)
        if old is not None:
            await self._retire(old)

    async def _retire(self, model: Loaded) -> None:
        model.retired = True
        self._retired.add(model)
        if not model.leases:
            await self._close(model)

    async def _close(self, model: Loaded) -> None:
        model.closed = True
        self._retired.discard(model)
        await model.engine.close()


def _resident_mib() -> float:
    """MiB of memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    except (OSError, ValueError):
        return 0.0


def _forget(loading: dict[str, asyncio.Task[Loaded]], name: str, task: asyncio.Task[Loaded]) -> None:
    loading.pop(name, None)
    if not task.cancelled():
        task.exception()


_WARM_UPS: dict[str, tasks.Request] = {
    "generate": tasks.Generate(messages=(tasks.Message(tasks.Role.USER, "warm up"),), max_tokens=1, temperature=0.0),
    "embed": tasks.Embed(("warm up",)),
    "classify": tasks.Classify(("warm up",)),
    "rerank": tasks.Rerank(("warm", "up")),
}


async def _warm(engine: Engine, manifest: Manifest) -> None:
    """One small request: what it allocates, and what it would fail with, comes before the first caller."""
    request = _WARM_UPS.get(manifest.task)
    if request is not None and manifest.backend == "onnx":
        await engine.run(request, None, WARM_UP)

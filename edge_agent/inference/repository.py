"""The models of one agent: models/<name>/<version>/, each with a manifest. Loaded once, however many ask; checked before."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from edge_agent.inference import manifest as manifests
from edge_agent.inference.encode import Embedder, LabelClassifier
from edge_agent.inference.generate import Generator
from edge_agent.inference.manifest import BadFolder, Manifest
from edge_agent.inference.noop import Noop
from edge_agent.inference.port import Engine
from sync.kit import errors, files, ids, logs

log = logs.get("repository")


class NoSuchModel(errors.Retryable):
    """This agent does not have the model: another may."""

    code = "model_not_here"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready. `digest` is over all its files."""

    manifest: Manifest
    engine: Engine
    digest: str


class Repository:
    """What is in the models folder, and what of it is loaded."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        self._folder = folder
        self._threads = threads
        self._found: dict[str, tuple[Path, Manifest]] = {}
        self._loading: dict[str, asyncio.Task[Loaded]] = {}

    def scan(self) -> list[str]:
        """Looks at the folder; a sentence for each model that cannot be used. Raises BadFolder where there is no folder."""
        if not self._folder.is_dir():
            raise BadFolder(
                f"The models folder {self._folder} does not exist: name one with --models or RINGFENCE_AGENT_MODELS, "
                "or make it with 'ringfence-agent models add'."
            )
        mistakes, found = [], {}
        for path in sorted(self._folder.iterdir()):
            try:
                newest = _newest_version(path)
                if newest is not None:
                    found[path.name] = newest, manifests.read(newest)
            except BadFolder as error:
                mistakes.append(str(error))
        self._found = found
        return mistakes

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._found)

    def found(self) -> list[tuple[Path, Manifest]]:
        """The folder and the manifest of each model."""
        return list(self._found.values())

    @property
    def running(self) -> int:
        """Requests at work or waiting in all models."""
        done = (task for task in self._loading.values() if task.done() and not task.cancelled() and not task.exception())
        return sum(task.result().engine.running for task in done)

    async def get(self, name: str) -> Loaded:
        """The model, loaded on first use. Raises NoSuchModel, or BadFolder or BadModel where it cannot be loaded."""
        if name not in self._found:
            raise NoSuchModel(f"This agent has no model folder '{name[:100]}'.")
        task = self._loading.get(name)
        if task is None or (task.done() and task.exception() is not None):
            task = self._loading[name] = asyncio.create_task(self._load(name), name=f"load {name}")
        return await asyncio.shield(task)

    async def load_all(self) -> list[str]:
        """Loads every model before the first request; a sentence for each that cannot be, which is then left out."""
        mistakes = []
        for name in list(self._found):
            try:
                await self.get(name)
            except errors.RingfenceError as error:
                mistakes.append(str(error))
                log.error("model_unusable", model=name, detail=str(error))
                del self._found[name]
        return mistakes

    def close(self) -> None:
        for task in self._loading.values():
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().engine.close()

    async def _load(self, name: str) -> Loaded:
        folder, manifest = self._found[name]
        engine = await asyncio.to_thread(self._open, folder, manifest)
        log.info("model_loaded", model=name, version=manifest.version, task=manifest.task)
        return Loaded(manifest, engine, manifest.digest)

    def _open(self, folder: Path, manifest: Manifest) -> Engine:
        manifests.check(folder, manifest)
        return _engine(folder, manifest, self._threads)


def add(models: Path, source: Path, **fields: object) -> Manifest:
    """Copies a model folder in under its name and version, with a fresh manifest: whole, or not at all. Raises BadFolder."""
    if not source.is_dir():
        raise BadFolder(f"{source} is not a folder.")
    target = models / str(fields["name"]) / str(fields["version"])
    if target.exists():
        raise BadFolder(f"{target} is there already: choose another version.")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}-{ids.sortable()}")
    try:
        beside.mkdir()
        for path in source.iterdir():
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                shutil.copyfile(path, beside / path.name)
        manifest = manifests.build(beside, **fields)
        # Opened once, so that a wrong folder is refused when it is added and not when it is used.
        _engine(beside, manifest, threads=1).close()
        beside.rename(target)
        files.sync_folder(target.parent)
    except OSError as error:
        raise files.not_writable(target, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return manifest


def _engine(folder: Path, manifest: Manifest, threads: int) -> Engine:
    """The engine for a model's task."""
    if manifest.backend == "noop":
        return Noop(manifest.noop)
    match manifest.task:
        case "generate":
            return Generator(folder, manifest, threads=threads)
        case "embed":
            return Embedder(folder, manifest, threads=threads)
        case "classify":
            return LabelClassifier(folder, manifest, threads=threads)


def _newest_version(path: Path) -> Path | None:
    """The folder of the highest version of a model, or None where this is no model's folder."""
    if not path.is_dir() or path.name.startswith("."):
        return None
    versions = [child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")]
    return max(versions, key=lambda child: _order(child.name), default=None)


def _order(version: str) -> tuple[tuple[int, str], ...]:
    """Numbers in versions compare as numbers: 1.10 after 1.9."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in version.replace("-", ".").split("."))

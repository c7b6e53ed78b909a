"""From a folder that came from somewhere to a version in the models folder: looked at, digested, tried once, and put in whole.

Invariants, each with a test of its words:
- a folder that wants foreign code or foreign files is refused by name, before anything of it is opened;
- what is not signed by the hub needs an administrator's word, and is tried in a process with a memory limit;
- a failure, a full disk among them, leaves what was there.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_agent.inference import manifest as manifests
from edge_agent.inference import opening, scan
from edge_agent.inference.generate import config
from edge_agent.inference.isolation.process import Isolated
from edge_agent.inference.manifest import BadFolder, Manifest
from edge_agent.inference.meters import InferenceMeters
from edge_agent.inference.opening import Resources
from edge_agent.inference.repository import trust
from edge_agent.inference.repository.folder import ModelsFolder, State, Version
from edge_agent.inference.repository.trust import Standing
from sync.crypto import digest
from sync.crypto.signing import PublicKey
from sync.kit import files, ids
from sync.kit.metrics import Registry

TAKEN = (".onnx", ".data", ".onnx_data", ".json", ".jinja", ".txt", ".model", ".sig")
"""Kinds of files that are of use. Others stay where they are: programs, pictures, weights of other formats."""
ADDING = ".adding-"
LEFT_S = 3600.0
MAX_FILES = 200
MAX_BYTES = 200 * 1024**3
MAX_JSON = 4 * 1024 * 1024

Told = Callable[[str, int, int], None]
"""Hears of progress: what is done, so many bytes of so many."""


class Untrusted(trust.NotTrusted):
    """Nobody vouches for what is to be added."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an administrator says of a model that is added. Empty and None: as its files say."""

    name: str = ""
    version: str = ""
    trust: bool = False
    fields: dict[str, object] | None = None


def say_nothing(what: str, done: int, whole: int) -> None:
    """Progress for nobody."""


def add(
    models: ModelsFolder, source: Path, wish: Wish, *, hub: PublicKey | None, resources: Resources, told: Told = say_nothing,
    move: bool = False,
) -> Manifest:  # fmt: skip
    """Puts a folder in as a version. `move`: its files may be taken, not copied. Raises BadFolder, and leaves what was there."""
    if not source.is_dir():
        raise BadFolder(f"{source} is not a folder.")
    _refuse(source)
    with _beside(models) as beside:
        _gather(source, beside, told, move=move)
        signed = _signed_manifest(beside, hub)
        if signed is None and not wish.trust:
            raise Untrusted(
                f"{source} is not signed by this agent's hub: look at where it is from, and add it with --trust. "
                "It then runs in a process of its own, with a memory limit."
            )
        if signed is None:
            (beside / manifests.SIGNATURE).unlink(missing_ok=True)
            fields = {**_guessed(beside), **{k: v for k, v in (wish.fields or {}).items() if v not in (None, [], "")}}
            name = wish.name or source.name.lower()
            signed_now = manifests.build(beside, name=name, version=wish.version or _next(models, name), **fields)
            trusted = digest.sha256((beside / manifests.NAME).read_bytes()).hex()
        else:
            signed_now, trusted = signed, ""
        if (models.path / signed_now.name / signed_now.version).exists():
            raise BadFolder(f"{models.path / signed_now.name / signed_now.version} is there already: choose another version.")
        told("trying", 0, 0)
        _try(beside, signed_now, resources, isolated=bool(trusted))
        models.place(beside, signed_now, trusted=trusted)
    return signed_now


def unpack(models: ModelsFolder, archive: Path, told: Told = say_nothing) -> Path:
    """A tar file's model folder, beside the models. Raises BadFolder for one that holds more than plain files, or too much."""
    target = models.incoming(f"tar-{ids.sortable()}")
    try:
        with tarfile.open(archive) as opened:
            whole = done = 0
            for count, member in enumerate(opened, 1):
                whole += member.size
                if count > MAX_FILES or whole > MAX_BYTES:
                    raise BadFolder(f"{archive} has over {MAX_FILES} files, or over {MAX_BYTES} bytes.")
                stays = not member.name.startswith("/") and ".." not in Path(member.name).parts
                if not stays or not (member.isfile() or member.isdir()):
                    raise BadFolder(f"{archive} holds '{member.name[:200]}', which is neither a file nor a folder inside it.")
                _write_member(opened, member, target)
                done += member.size
                told(member.name, done, whole)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, (tarfile.TarError, EOFError)):
            raise BadFolder(f"{archive} is no tar file, or a damaged or hostile one.") from error
        if isinstance(error, OSError):
            raise files.not_writable(target, error) from error
        raise
    inside = list(target.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else target


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """A member's bytes alone: no owner, no mode, no time of it. tarfile's own filters are not in every Python 3.11."""
    content = archive.extractfile(member)
    if content is not None:
        path = target / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            shutil.copyfileobj(content, out)


def trust_here(models: ModelsFolder, name: str, version: str) -> Version:
    """Notes that an administrator has looked at a version that lies in the folder. Raises BadFolder."""
    found = models.find(name, version)
    manifests.check(found.path, found.manifest)
    told = digest.sha256((found.path / manifests.NAME).read_bytes()).hex()
    models.write_state(name, trusted={**found.state.trusted, found.manifest.version: told})
    return models.find(name, found.manifest.version)


def verify(version: Version, hub: PublicKey | None) -> Standing:
    """Looks at a version again as if it were new. Raises BadFolder naming what is wrong."""
    manifests.check(version.path, version.manifest)
    _refuse(version.path)
    return trust.must_be_known(version, hub)


def _refuse(folder: Path) -> None:
    """Raises BadFolder where the folder wants foreign code or files, or holds links."""
    paths = list(folder.rglob("*"))
    if len(paths) > MAX_FILES:
        raise BadFolder(f"{folder} has over {MAX_FILES} files: it is no model folder.")
    link = next((path for path in paths if path.is_symlink()), None)
    if link is not None:
        raise BadFolder(f"{link} is a symbolic link: a model folder has plain files only.")
    config.refuse_hostile(folder)
    for path in paths:
        if path.suffix == ".onnx":
            scan.check(path)


def _gather(source: Path, beside: Path, told: Told, *, move: bool) -> None:
    """Copies the files that are of use; those in `onnx/`, where Hugging Face's exports lie, come to the others."""
    paths = [path for folder in (source, source / "onnx") if folder.is_dir() for path in folder.iterdir()]
    wanted = [path for path in paths if path.is_file() and not path.name.startswith(".") and path.name.endswith(TAKEN)]
    whole, done = sum(path.stat().st_size for path in wanted), 0
    pooling = source / "1_Pooling" / "config.json"
    free = shutil.disk_usage(beside).free
    if not move and whole > free:
        raise BadFolder(
            f"{source} has {whole // 2**20} MiB, and the disk of {beside.parent} has {free // 2**20} left: nothing was changed."
        )
    try:
        for path in wanted:
            told(path.name, done, whole)
            if (beside / path.name).exists():
                continue
            if move:
                path.rename(beside / path.name)
            else:
                shutil.copyfile(path, beside / path.name)
            done += (beside / path.name).stat().st_size
        if pooling.is_file() and pooling.stat().st_size <= MAX_JSON:
            shutil.copyfile(pooling, beside / "pooling.json")
        told("", whole, whole)
    except OSError as error:
        raise files.not_writable(beside, error) from error


def _signed_manifest(folder: Path, hub: PublicKey | None) -> Manifest | None:
    """The folder's own manifest where the hub signed it and the files are the ones it names. Raises BadFolder."""
    if hub is None or not (folder / manifests.SIGNATURE).is_file() or not (folder / manifests.NAME).is_file():
        return None
    manifest = manifests.read(folder)
    if trust.standing(Version(folder, manifest, State(), used=False), hub) is not Standing.SIGNED:
        return None
    manifests.check(folder, manifest)
    return manifest


def _guessed(folder: Path) -> dict[str, object]:
    """What a folder's own configuration says of its task. Raises BadFolder where it says nothing."""
    told = _json(folder / "config.json")
    architecture = _first(told.get("architectures"))
    labels = told.get("id2label")
    names = [str(labels[key]) for key in sorted(labels, key=int)] if isinstance(labels, dict) and labels else []
    if (folder / "genai_config.json").is_file() or architecture.endswith("ForCausalLM"):
        return {"task": "generate"}
    if architecture.endswith(("ForTokenClassification", "ForSequenceClassification")):
        single = architecture.endswith("ForSequenceClassification") and len(names) == 1
        return {"task": "rerank"} if single else {"task": "classify", "labels": names}
    pooling = _json(folder / "pooling.json")
    most = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    found: dict[str, object] = {"max_tokens": most} if isinstance(most, int) else {}
    if pooling or (folder / "sentence_bert_config.json").is_file():
        kind = "cls" if pooling.get("pooling_mode_cls_token") else "last" if pooling.get("pooling_mode_lasttoken") else "mean"
        return {**found, "task": "embed", "pooling": kind}
    return found


def _first(told: object) -> str:
    return str(told[0]) if isinstance(told, list) and told else ""


def _json(path: Path) -> dict[str, object]:
    if not path.is_file() or path.stat().st_size > MAX_JSON:
        return {}
    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadFolder(f"{path} is no JSON.") from error
    return told if isinstance(told, dict) else {}


def _next(models: ModelsFolder, name: str) -> str:
    """The number after the highest version that is a number."""
    folder = models.path / name
    known = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return str(max(known, default=0) + 1)


def _try(folder: Path, manifest: Manifest, resources: Resources, *, isolated: bool) -> None:
    """Opens the model once, so that a wrong folder is refused when it is added and not when it is used. Raises BadFolder or
    BadModel."""
    if manifest.backend != "onnx":
        return
    meters = InferenceMeters(Registry()).of(manifest.name)

    async def opened() -> None:
        if isolated:
            process = Isolated(folder, manifest, resources, meters)
            await process.start()
            await process.close()
        else:
            await opening.open_local(folder, manifest, resources, meters).close()

    asyncio.run(opened())


def _sweep(models: ModelsFolder) -> None:
    """Removes what a command that was killed has left, once it is old: another may be at work."""
    for path in models.path.glob(f"{ADDING}*"):
        if time.time() - path.stat().st_mtime > LEFT_S:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _beside(models: ModelsFolder) -> Iterator[Path]:
    """A folder for the version in the making, on the same disk; gone afterwards, unless it was put in."""
    try:
        models.path.mkdir(parents=True, exist_ok=True)
        _sweep(models)
        path = models.path / f"{ADDING}{ids.sortable()}"
        path.mkdir()
    except OSError as error:
        raise files.not_writable(models.path, error) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)

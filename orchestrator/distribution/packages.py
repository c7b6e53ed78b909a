"""Models for the agents: signed by the hub, and put into the broker's bucket in chunks that are fetched and resumed one by one."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sync.bus.port import Bus
from sync.crypto import digest
from sync.crypto.signing import MODEL, Signer
from sync.kit import errors, files
from sync.wire import codec, packages
from sync.wire.packages import CHUNK, Package, PackedFile

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MAX_MANIFEST = 256 * 1024
MAX_FILE = 64 * 1024**3


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What the hub has to know of a manifest: the rest is the agents' business."""

    name: str
    version: str
    files: dict[str, str]


class BadModelFolder(errors.Misconfigured):
    """The folder is not one that 'ringfence-agent models add' has made."""

    code = "bad_model_folder"


def sign(folder: Path, signer: Signer) -> None:
    """Puts the hub's signature beside the manifest of a model folder. Raises BadModelFolder."""
    told, _ = _manifest(folder)
    files.write_atomically(folder / SIGNATURE, signer.sign(MODEL, told))


def write_tar(folder: Path, to: Path) -> None:
    """A signed model's folder as one file: whole, or not at all. Raises BadModelFolder, or Misconfigured."""
    _, manifest = _manifest(folder)
    beside = to.with_name(f".{to.name}.part")
    try:
        with tarfile.open(beside, "w") as tar:
            for name in (MANIFEST, SIGNATURE, *manifest.files):
                tar.add(folder / name, arcname=name)
        beside.replace(to)
    except OSError as error:
        raise files.not_writable(to, error) from error
    finally:
        beside.unlink(missing_ok=True)


async def publish(bus: Bus, folder: Path, signer: Signer, told: Callable[[str, int, int], None]) -> Package:
    """Puts a model folder into the bucket, as the newest version of its name. What is there already is not sent again.

    `told` hears of progress in bytes. Raises BadModelFolder, or BusUnavailable: then the same call goes on from there.
    """
    data, manifest = _manifest(folder)
    packed, whole, done = [], sum((folder / name).stat().st_size for name in manifest.files), 0
    for name, expected in manifest.files.items():
        path, digests = folder / name, []
        if digest.file_sha256(str(path)) != expected:
            raise BadModelFolder(f"{path} is not the file that its manifest names: its SHA-256 differs.")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                key = packages.chunk_key(digest.sha256(chunk))
                if await bus.get(packages.BUCKET, key) is None:
                    await bus.put(packages.BUCKET, key, chunk)
                digests.append(digest.sha256(chunk))
                done += len(chunk)
                told(name, done, whole)
        packed.append(PackedFile(name, path.stat().st_size, b"".join(digests)))
    package = Package(manifest.name, manifest.version, data, signer.sign(MODEL, data), tuple(packed))
    frame = codec.encode(package)
    for version in (package.version, ""):
        await bus.put(packages.BUCKET, packages.package_key(package.name, version), frame)
    return package


def _manifest(folder: Path) -> tuple[bytes, _Manifest]:
    """The manifest's bytes and what is in them. Raises BadModelFolder where a file that it names is not there."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
        told = json.loads(data) if len(data) <= MAX_MANIFEST else None
    except (OSError, ValueError) as error:
        raise BadModelFolder(f"{folder} has no readable {MANIFEST}: 'ringfence-agent models add' makes one.") from error
    match told:
        case {"name": str(name), "version": str(version), "files": dict(named)}:
            for file in named:
                target = folder / file
                if "/" in file or target.is_symlink() or not target.is_file() or target.stat().st_size > MAX_FILE:
                    raise BadModelFolder(f"{target} is missing, too large, or not a plain file: the manifest names it.")
            return data, _Manifest(name, version, named)
    raise BadModelFolder(f"{path} is no model's manifest.")

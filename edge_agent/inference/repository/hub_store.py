"""Models from the hub: a signed manifest and chunks by their digests, over the broker. A cut fetch goes on at the chunk that
is missing."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.inference import manifest as manifests
from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.repository.adding import Told
from edge_agent.inference.repository.folder import ModelsFolder
from sync.bus.port import Bus
from sync.crypto import digest, signing
from sync.crypto.signing import PublicKey
from sync.kit import errors, files
from sync.wire import codec, packages
from sync.wire.packages import CHUNK, Package, PackedFile


class BadPackage(errors.Corrupt):
    """What the hub's store holds is not what the hub signed."""

    code = "bad_package"


async def find(bus: Bus, name: str, version: str, hub: PublicKey) -> Package:
    """The package of a version, or of the newest one. Raises BadFolder where there is none, BadPackage, or BusUnavailable."""
    frame = await bus.get(packages.BUCKET, packages.package_key(name, version))
    if frame is None:
        raise BadFolder(
            f"The hub has no model '{name[:100]}'{f' of version {version}' if version else ''}: 'ringfence models publish'."
        )
    package = codec.decode(frame, Package)
    try:
        signing.verify(hub, signing.MODEL, package.manifest, package.signature)
    except signing.BadSignature as error:
        raise BadPackage(f"The model '{name[:100]}' in the hub's store is not signed by this agent's hub.") from error
    return package


async def fetch(bus: Bus, models: ModelsFolder, package: Package, told: Told) -> Path:
    """The package's files in a folder. Raises BadPackage or BusUnavailable: then the same call goes on from there."""
    target = models.incoming(f"rf-{digest.sha256(package.manifest).hex()[:32]}")
    whole, done = sum(file.size for file in package.files), 0
    try:
        for file in package.files:
            done = await _fetch_file(bus, target / _plain(file.name), file, told, done, whole)
        files.write_atomically(target / manifests.NAME, package.manifest)
        files.write_atomically(target / manifests.SIGNATURE, package.signature)
    except OSError as error:
        raise files.not_writable(target, error) from error
    return target


async def _fetch_file(bus: Bus, path: Path, file: PackedFile, told: Told, done: int, whole: int) -> int:
    """Takes up a file where it was left: chunks that are there and right are not fetched again."""
    wanted = [file.chunks[at : at + digest.SIZE] for at in range(0, len(file.chunks), digest.SIZE)]
    with open(os.open(path, os.O_RDWR | os.O_CREAT, files.PUBLIC), "r+b") as out:  # noqa: ASYNC230, PTH123 - a command's own file
        for expected in wanted:
            at = out.tell()
            known = out.read(CHUNK)
            if digest.sha256(known) != expected:
                chunk = await bus.get(packages.BUCKET, packages.chunk_key(expected))
                if chunk is None or digest.sha256(chunk) != expected:
                    raise BadPackage(f"A piece of '{path.name}' is missing in the hub's store, or damaged.")
                out.seek(at)
                out.write(chunk)
                known = chunk
            out.seek(at + len(known))
            done += len(known)
            told(path.name, done, whole)
        out.truncate(file.size)
    return done


def _plain(name: str) -> str:
    """A file name without a way out of its folder. Raises BadPackage."""
    if "/" in name or "\\" in name or name.startswith(".") or not name:
        raise BadPackage("The package names a file outside its folder.")
    return name

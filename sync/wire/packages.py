"""Models on their way from the hub to agents: a signed manifest, and files as content-addressed chunks in a bucket.

The keys of the bucket are digests, since names may hold what a subject may not.
"""

from __future__ import annotations

from typing import ClassVar

from sync.crypto import digest
from sync.wire.codec import MIB
from sync.wire.types import Bytes, Closed, Int, Str

BUCKET = "rf_models"
RELEASE = "_release"
"""The name under which releases of the agent lie beside the models: none of a model, which begins with a letter or digit."""
CHUNK = 512 * 1024
"""Bytes of a chunk; the last one of a file is shorter."""


class PackedFile(Closed, frozen=True):
    """One file: its size in bytes and the SHA-256 of each of its chunks, one after another."""

    name: Str
    size: Int
    chunks: Bytes


class Package(Closed, frozen=True):
    """A version of a model. `signature` is the hub's over `manifest`, which names each file's own SHA-256."""

    KIND: ClassVar[str] = "package"
    CAP: ClassVar[int] = 7 * MIB
    name: Str
    version: Str
    manifest: Bytes
    signature: Bytes
    files: tuple[PackedFile, ...]


def package_key(name: str, version: str) -> str:
    """Where a version lies; without a version, where the newest one does."""
    return f"package.{digest.of('package', f'{name}/{version}'.encode()).hex()}"


def chunk_key(sha256: bytes) -> str:
    return f"chunk.{sha256.hex()}"

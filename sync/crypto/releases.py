"""Signed releases: a folder's SHA256SUMS, and beside it a plain Ed25519 signature (RFC 8032) over that file's bytes.

Plain, so that a server on which nothing of ours is installed yet can check it with openssl and sha256sum.
"""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sync.crypto import digest
from sync.kit import errors

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
MAX_SUMS = 1024 * 1024
_LINE = re.compile(r"([0-9a-f]{64})  ([\w.+~-][\w.+~/-]*)")


class NotSigned(errors.Misconfigured):
    """The file is not one of a release that this key has signed."""

    code = "not_signed"


def new_key() -> tuple[bytes, bytes]:
    """A private and a public key in PEM, for whoever makes releases."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


def sign(sums: bytes, private: bytes) -> bytes:
    """64 bytes over the file of digests. Raises Misconfigured where the key is none."""
    try:
        key = serialization.load_pem_private_key(private, None)
    except (ValueError, TypeError) as error:
        raise errors.Misconfigured(
            "This is no private key in PEM: make one with 'packaging/release.py key'.", code="bad_key"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise errors.Misconfigured("The release key is not an Ed25519 key.", code="bad_key")
    return key.sign(sums)


def check(path: Path, public: bytes) -> None:
    """Returns where the file is one of a signed release that lies around it. Raises NotSigned."""
    sums = path.parent / SUMS
    try:
        data, signature = sums.read_bytes()[:MAX_SUMS], (path.parent / SIGNATURE).read_bytes()
    except OSError as error:
        raise NotSigned(f"{path} is not signed: {SUMS} and {SIGNATURE} of its release must lie beside it.") from error
    try:
        key = serialization.load_pem_public_key(public)
        if not isinstance(key, Ed25519PublicKey):
            raise NotSigned("The release key is not an Ed25519 key.")
        key.verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise NotSigned(f"{sums} is not signed by the release key: somebody has changed it, or it is of somebody else.") from error
    named = {name: value for value, name in _LINE.findall(data.decode("utf-8", "replace"))}
    if path.name not in named:
        raise NotSigned(f"{sums} does not name {path.name}.")
    if digest.file_sha256(str(path)) != named[path.name]:
        raise NotSigned(f"{path} is not the file that {sums} names: its SHA-256 differs.")


def sums(folder: Path) -> bytes:
    """The SHA256SUMS of everything in a folder, as sha256sum writes it."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (SUMS, SIGNATURE))
    return "".join(f"{digest.file_sha256(str(path))}  {path.relative_to(folder)}\n" for path in found).encode()

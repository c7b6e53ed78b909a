"""SHA-256 with a named purpose before the data, so that a digest made for one thing never passes for another."""

from __future__ import annotations

import hashlib
import hmac

SIZE = 32


def of(purpose: str, data: bytes) -> bytes:
    """SHA-256 of the purpose's length and name, then the data: 32 bytes."""
    return hashlib.sha256(_prefix(purpose) + data).digest()


def keyed(key: bytes, purpose: str, data: bytes) -> bytes:
    """HMAC-SHA256 under the key: 32 bytes that tell nothing of low-entropy data to whoever lacks the key."""
    return hmac.digest(key, _prefix(purpose) + data, "sha256")


def equal(left: bytes, right: bytes) -> bool:
    """Whether two digests are the same, in constant time."""
    return hmac.compare_digest(left, right)


def sha256(data: bytes) -> bytes:
    """Plain SHA-256, for formats that lay down their own prefixes (RFC 6962, file digests)."""
    return hashlib.sha256(data).digest()


def file_sha256(path: str) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:  # noqa: PTH123 - file_digest wants the object
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prefix(purpose: str) -> bytes:
    name = purpose.encode()
    return bytes([len(name)]) + name

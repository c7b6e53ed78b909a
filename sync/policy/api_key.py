"""API keys: `rf_live_<10 id>_<43 secret><6 checksum>`, in base62.

The prefix lets secret scanners find a leaked key; the id is public; the secret has 256 random bits, so that a plain
(purpose-separated) SHA-256 is enough at rest; the checksum is a CRC-32, so that a mistyped key never reaches a look-up.
"""

from __future__ import annotations

import re
import secrets
import zlib
from dataclasses import dataclass

from sync.crypto import digest
from sync.kit.ids import KeyId

PREFIX = "rf_live_"
PURPOSE = "api-key"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHAPE = re.compile(r"rf_live_([0-9A-Za-z]{10})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)
LENGTH = len(PREFIX) + 10 + 1 + 43 + 6


@dataclass(frozen=True, slots=True)
class Parsed:
    """A key whose checksum is right. `digest` is what is stored and compared; the secret is not kept."""

    id: KeyId
    digest: bytes


def mint() -> str:
    """A new key, shown once."""
    body = f"{PREFIX}{_base62(secrets.randbits(59), 10)}_{_base62(secrets.randbits(256), 43)}"
    return body + _checksum(body)


def parse(text: str) -> Parsed | None:
    """The id and digest of a well-formed key, or None: a wrong length, alphabet or checksum."""
    if len(text) != LENGTH or (match := _SHAPE.fullmatch(text)) is None:
        return None
    if _checksum(text[:-6]) != match[3]:
        return None
    return Parsed(KeyId(match[1]), digest.of(PURPOSE, text.encode()))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))

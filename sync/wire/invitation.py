"""An invitation's token: `rfj1_<10 id>_<43 secret>_<64 pin><6 checksum>`, used once.

The pin is the SHA-256 of the hub's root certificate: whoever holds the token knows the hub before it says the secret to it
(as k3s's tokens do). The secret has 256 random bits; the checksum is a CRC-32, so that a line cut off in pasting is told as that.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from dataclasses import dataclass

from sync.kit import errors

LETTERS = string.digits + string.ascii_letters
_SHAPE = re.compile(r"rfj1_([0-9A-Za-z]{10})_([0-9A-Za-z]{43})_([0-9a-f]{64})([0-9a-f]{8})", re.ASCII)


class BadToken(errors.Misconfigured):
    """The text is no token of an invitation."""

    code = "bad_token"


@dataclass(frozen=True, slots=True)
class Token:
    """`pin`: 32 bytes, the SHA-256 of the root certificate that the hub's servers must be of."""

    id: str
    secret: str
    pin: bytes

    def __repr__(self) -> str:
        return f"Token({self.id})"

    @property
    def text(self) -> str:
        """For one line, shown once."""
        body = f"rfj1_{self.id}_{self.secret}_{self.pin.hex()}"
        return f"{body}{zlib.crc32(body.encode()):08x}"


def mint(pin: bytes) -> Token:
    """A new token for a hub with this root."""
    return Token(_random(10), _random(43), pin)


def parse(text: str) -> Token:
    """The token in a text. Raises BadToken where a letter is missing or wrong."""
    match = _SHAPE.fullmatch(text.strip()[:200])
    if match is None or f"{zlib.crc32(text.strip()[:-8].encode()):08x}" != match[4]:
        raise BadToken("The token is not whole: copy the line that 'ringfence agents invite' printed once more, to its end.")
    return Token(match[1], match[2], bytes.fromhex(match[3]))


def _random(count: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(count))

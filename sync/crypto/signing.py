"""Ed25519 signatures (RFC 8032) under a named purpose: what was signed as a receipt never verifies as a bundle."""

from __future__ import annotations

from typing import NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sync.kit import errors

PublicKey = NewType("PublicKey", bytes)
"""32 bytes."""

BUNDLE = "bundle"
RECEIPT = "receipt"
SESSION = "session"
JOURNAL_HEAD = "journal-head"
ADMISSION = "admission"
MODEL = "model-manifest"
TOMBSTONE = "tombstone"
ERASURE = "erasure"
ERASED = "erased"
FORWARD = "forward"
HUB_BEAT = "hub-beat"
RENEWAL = "renewal"
UPGRADE = "upgrade"


class BadSignature(errors.Corrupt):
    """The signature does not fit the data, the key and the purpose."""

    code = "bad_signature"


class Signer:
    """A private key that signs. `seed` is 32 secret bytes."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, purpose: str, data: bytes) -> bytes:
        """64 bytes over the purpose and the data."""
        return self._key.sign(_message(purpose, data))

    def sign_note(self, text: bytes) -> bytes:
        """64 bytes over a C2SP note's text alone, as that format lays down; the text's first line is its purpose."""
        return self._key.sign(text)


def new_seed() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes_raw()


def verify(key: PublicKey, purpose: str, data: bytes, signature: bytes) -> None:
    """Returns where the signature is right. Raises BadSignature."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, _message(purpose, data))
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(f"A signature as {purpose} does not verify.") from error


def verify_note(key: PublicKey, text: bytes, signature: bytes) -> None:
    """Returns where the signature over a note's text is right. Raises BadSignature."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature("A note's signature does not verify.") from error


def _message(purpose: str, data: bytes) -> bytes:
    return b"ringfence/v1/" + purpose.encode() + b"\x00" + data

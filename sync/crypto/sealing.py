"""Sealing to a public key (HPKE base mode, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM) and under a shared key (AES-256-GCM)."""

from __future__ import annotations

import os
from typing import NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sync.kit import errors

SealingKey = NewType("SealingKey", bytes)
"""An X25519 public key: 32 bytes."""

NONCE = 12
KEY = 32
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class CannotOpen(errors.Corrupt):
    """The ciphertext was changed, or was sealed for another key, purpose or context."""

    code = "cannot_open"


class Opener:
    """A private key that opens what was sealed to its public one. `private` is 32 secret bytes."""

    def __init__(self, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public_key = SealingKey(self._key.public_key().public_bytes_raw())

    def open(self, sealed: bytes, *, info: bytes) -> bytes:
        """What was sealed to this key with the same info. Raises CannotOpen."""
        try:
            return _SUITE.decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError) as error:
            raise CannotOpen("A sealed key cannot be opened: it is for another key, or was changed.") from error


def new_private() -> bytes:
    return X25519PrivateKey.generate().private_bytes_raw()


def seal_to(key: SealingKey, plaintext: bytes, *, info: bytes) -> bytes:
    """The plaintext, for the holder of the key alone. `info` binds it to its purpose."""
    return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(key), info)


class Box:
    """AES-256-GCM under one 32-byte key, with random 96-bit nonces: at most 2^32 messages a key (SP 800-38D)."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, plaintext: bytes, *, context: bytes) -> bytes:
        """nonce, ciphertext and tag; `context` is authenticated and must be the same at opening."""
        nonce = os.urandom(NONCE)
        return nonce + self._aead.encrypt(nonce, plaintext, context)

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """The plaintext. Raises CannotOpen where a bit or the context differs."""
        try:
            return self._aead.decrypt(sealed[:NONCE], sealed[NONCE:], context)
        except (InvalidTag, ValueError) as error:
            raise CannotOpen("Encrypted data cannot be opened: it was changed, or belongs elsewhere.") from error


def derive(key: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose from a 32-byte random key (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"ringfence/v1/" + purpose.encode()).derive(key)


def new_key() -> bytes:
    return os.urandom(32)

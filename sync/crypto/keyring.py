"""The private keys of one process in one file of mode 0600: to sign, to open, and to encrypt its disk with. Does I/O."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from sync.crypto import sealing, signing
from sync.kit import errors, files


@dataclass(frozen=True, slots=True)
class Keyring:
    """What a process proves itself with, opens with, and encrypts its disk with."""

    signer: signing.Signer
    opener: sealing.Opener
    at_rest: bytes

    def __repr__(self) -> str:
        return f"Keyring({base64.b64encode(self.signer.public_key).decode()})"


def load_or_create(path: Path) -> Keyring:
    """The keyring in this file, made on first use. Raises Misconfigured where others can read it or it is damaged."""
    if not path.exists():
        files.write_atomically(path, _fresh(), mode=files.PRIVATE)
    return load(path)


def load(path: Path) -> Keyring:
    """The keyring in this file. Raises Misconfigured where it is missing, damaged, or open to others."""
    try:
        fields = json.loads(files.read_private(path))
        return Keyring(
            signer=signing.Signer(base64.b64decode(fields["sign"], validate=True)),
            opener=sealing.Opener(base64.b64decode(fields["seal"], validate=True)),
            at_rest=_of_32_bytes(base64.b64decode(fields["rest"], validate=True)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise errors.Misconfigured(f"The key file {path} is damaged: restore it from a backup.", code="key_file_damaged") from error


def _fresh() -> bytes:
    keys = {"sign": signing.new_seed(), "seal": sealing.new_private(), "rest": sealing.new_key()}
    return json.dumps({name: base64.b64encode(key).decode() for name, key in keys.items()}).encode()


def _of_32_bytes(key: bytes) -> bytes:
    if len(key) != 32:
        raise ValueError("a key is 32 bytes")
    return key

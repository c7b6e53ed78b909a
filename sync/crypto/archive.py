"""Encrypted archives: a stream in sealed chunks, under a key that a passphrase or a key service wraps.

AES-256-GCM in chunks whose nonces count up and mark the last one (the STREAM construction, Hoang et al., 2015): a chunk that is
changed, moved, dropped or cut off at the end is found. A passphrase becomes a key by scrypt (RFC 7914).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import IO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sync.crypto import sealing
from sync.kit import errors

MAGIC = b"ringfence-archive-1\n"
CHUNK = 1024 * 1024
MAX_HEADER = 16 * 1024
MIN_PASSPHRASE = 12
_TAG = 16
_N, _R, _P = 2**17, 8, 1
"""scrypt's cost: 128 MiB and some 0.3 s."""
COMMAND_TIMEOUT_S = 60


class CannotUnlock(errors.Misconfigured):
    """The passphrase or the key service does not open this archive."""

    code = "cannot_unlock"


class Damaged(errors.Corrupt):
    """The archive was changed or cut off."""

    code = "archive_damaged"


class Wrapper(Protocol):
    """What keeps an archive's key. `name` is written into the archive."""

    name: str

    def wrap(self, key: bytes) -> dict[str, str]:
        """What is written beside the archive's bytes, from which `unwrap` gives the key again."""
        ...

    def unwrap(self, told: dict[str, str]) -> bytes:
        """The key. Raises CannotUnlock."""
        ...


class Passphrase:
    """A passphrase that people keep."""

    name = "passphrase"

    def __init__(self, text: str) -> None:
        if len(text) < MIN_PASSPHRASE:
            raise errors.Misconfigured(f"The passphrase has fewer than {MIN_PASSPHRASE} characters.", code="short_passphrase")
        self._text = text.encode()

    def wrap(self, key: bytes) -> dict[str, str]:
        salt = os.urandom(16)
        return {"salt": salt.hex(), "key": self._box(salt).seal(key, context=MAGIC).hex()}

    def unwrap(self, told: dict[str, str]) -> bytes:
        try:
            return self._box(bytes.fromhex(told["salt"])).open(bytes.fromhex(told["key"]), context=MAGIC)
        except (sealing.CannotOpen, ValueError, KeyError) as error:
            raise CannotUnlock("The passphrase does not open this archive.") from error

    def _box(self, salt: bytes) -> sealing.Box:
        return sealing.Box(Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(self._text))


class KeyService:
    """A key service behind a command: `COMMAND wrap` and `COMMAND unwrap` read bytes in hex and write bytes in hex."""

    name = "key-service"

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)

    def wrap(self, key: bytes) -> dict[str, str]:
        return {"key": self._run("wrap", key).hex()}

    def unwrap(self, told: dict[str, str]) -> bytes:
        try:
            key = self._run("unwrap", bytes.fromhex(told["key"]))
        except (ValueError, KeyError) as error:
            raise CannotUnlock("The archive's header is not of a key service.") from error
        if len(key) != sealing.KEY:
            raise CannotUnlock("The key service gave no key of 32 bytes.")
        return key

    def _run(self, what: str, data: bytes) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603 - the administrator's own command, without a shell
                [*self._command, what], input=data.hex().encode(), capture_output=True, timeout=COMMAND_TIMEOUT_S, check=True
            )
            return bytes.fromhex(done.stdout.decode().strip())
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise CannotUnlock(f"The key service '{self._command[0]} {what}' failed ({type(error).__name__}).") from error


class Writer:
    """Takes bytes, and writes them sealed to a file. `close` writes the end."""

    def __init__(self, file: IO[bytes], wrapper: Wrapper) -> None:
        key = sealing.new_key()
        header = json.dumps({"wrapper": wrapper.name, **wrapper.wrap(key)}).encode()
        file.write(MAGIC + len(header).to_bytes(4, "big") + header)
        self._file = file
        self._aead = AESGCM(key)
        self._waiting = bytearray()
        self._count = 0

    def write(self, data: bytes) -> int:
        self._waiting += data
        while len(self._waiting) > CHUNK:
            self._seal(bytes(self._waiting[:CHUNK]), last=False)
            del self._waiting[:CHUNK]
        return len(data)

    def close(self) -> None:
        self._seal(bytes(self._waiting), last=True)

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._aead.encrypt(_nonce(self._count, last), chunk, None))
        self._count += 1


class Reader:
    """Gives the bytes of an archive again. Raises Damaged as soon as one is not what was written, and at a missing end."""

    def __init__(self, file: IO[bytes], wrapper: Wrapper) -> None:
        told = read_header(file)
        if told.get("wrapper") != wrapper.name:
            raise CannotUnlock(f"The archive's key is kept by a {told.get('wrapper')}, not by a {wrapper.name}.")
        self._file = file
        self._aead = AESGCM(wrapper.unwrap(told))
        self._ahead = file.read(CHUNK + _TAG)
        self._ready = bytearray()
        self._count = 0

    def read(self, size: int = -1) -> bytes:
        while self._ahead and (size < 0 or len(self._ready) < size):
            self._open_next()
        taken = bytes(self._ready) if size < 0 else bytes(self._ready[:size])
        del self._ready[: len(taken)]
        return taken

    def _open_next(self) -> None:
        chunk, self._ahead = self._ahead, self._file.read(CHUNK + _TAG)
        try:
            self._ready += self._aead.decrypt(_nonce(self._count, not self._ahead), chunk, None)
        except InvalidTag as error:
            raise Damaged(f"The archive is damaged or cut off at chunk {self._count}.") from error
        self._count += 1


def read_header(file: IO[bytes]) -> dict[str, str]:
    """How the archive's key is kept. Raises Damaged where the file is no archive."""
    try:
        if file.read(len(MAGIC)) != MAGIC:
            raise Damaged("The file is no archive of Ringfence.")
        size = int.from_bytes(file.read(4), "big")
        told = json.loads(file.read(size)) if size <= MAX_HEADER else None
    except ValueError as error:
        raise Damaged("The archive's header is damaged.") from error
    if not isinstance(told, dict):
        raise Damaged("The archive's header is damaged.")
    return {str(name): str(value) for name, value in told.items()}


def _nonce(count: int, last: bool) -> bytes:
    return count.to_bytes(11, "big") + (b"\x01" if last else b"\x00")

"""Checkpoints: a tree's size and root, signed as a C2SP signed note (c2sp.org/tlog-checkpoint, c2sp.org/signed-note)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from sync.crypto import digest, signing
from sync.kit import errors

MAX_NOTE = 4096
_ED25519 = b"\x01"


class BadCheckpoint(errors.Corrupt):
    """The note is malformed, for another log, or not signed by this key."""

    code = "bad_checkpoint"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of one log: `origin` names it, `root` is the Merkle tree hash of its first `size` leaves."""

    origin: str
    size: int
    root: bytes


def sign(checkpoint: Checkpoint, name: str, signer: signing.Signer) -> str:
    """The signed note. `name` is the signer's, without spaces or plus signs."""
    text = _text(checkpoint)
    signature = _key_id(name, signer.public_key) + signer.sign_note(text.encode())
    return f"{text}\n— {name} {base64.b64encode(signature).decode()}\n"


def verify(note: str, name: str, key: signing.PublicKey) -> Checkpoint:
    """The checkpoint in a note that this signer signed. Raises BadCheckpoint."""
    if len(note) > MAX_NOTE or "\n\n" not in note:
        raise BadCheckpoint("A checkpoint is not a signed note.")
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    wanted = _key_id(name, key)
    for line in signatures.splitlines():
        try:
            mark, signer, encoded = line.split(" ")
            blob = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            continue
        if (mark, signer, blob[:4]) == ("—", name, wanted):
            try:
                signing.verify_note(key, text.encode(), blob[4:])
            except signing.BadSignature as error:
                raise BadCheckpoint(f"The checkpoint is not what {name} signed.") from error
            return _parse(text)
    raise BadCheckpoint(f"The checkpoint carries no signature of {name} under this key.")


def _text(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.origin}\n{checkpoint.size}\n{base64.b64encode(checkpoint.root).decode()}\n"


def _parse(text: str) -> Checkpoint:
    try:
        origin, size, root, *_ = text.split("\n")
        if not size.isascii() or not size.isdigit():
            raise ValueError("size")
        return Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
    except (ValueError, binascii.Error) as error:
        raise BadCheckpoint("A checkpoint's size or root is malformed.") from error


def _key_id(name: str, key: signing.PublicKey) -> bytes:
    return digest.sha256(name.encode() + b"\n" + _ED25519 + key)[:4]

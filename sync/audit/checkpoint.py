"""Checkpoints: a tree's size and root, signed as a C2SP signed note (c2sp.org/tlog-checkpoint, c2sp.org/signed-note).

A witness adds its own signature with the time at which it saw the checkpoint (c2sp.org/tlog-cosignature).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from sync.crypto import digest, signing
from sync.kit import errors

MAX_NOTE = 4096
MAX_SIGNATURES = 16
ED25519 = b"\x01"
COSIGNATURE = b"\x04"
_TIME = 8


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
    text, blobs = _signatures(note, name, _key_id(name, key))
    for blob in blobs:
        try:
            signing.verify_note(key, text.encode(), blob)
        except signing.BadSignature as error:
            raise BadCheckpoint(f"The checkpoint is not what {name} signed.") from error
        return _parse(text)
    raise BadCheckpoint(f"The checkpoint carries no signature of {name} under this key.")


def cosign(note: str, name: str, signer: signing.Signer, at: int) -> str:
    """A witness's signature line for a note that it has checked. `at`: seconds since 1970."""
    text, _ = _signatures(note, name, b"")
    signature = signer.sign_note(_cosigned(text, at))
    blob = _key_id(name, signer.public_key, COSIGNATURE) + at.to_bytes(_TIME, "big") + signature
    return f"— {name} {base64.b64encode(blob).decode()}\n"


def verify_cosignature(note: str, name: str, key: signing.PublicKey) -> int:
    """When this witness has seen the note, in seconds since 1970. Raises BadCheckpoint where it has not signed it."""
    text, blobs = _signatures(note, name, _key_id(name, key, COSIGNATURE))
    for blob in blobs:
        at = int.from_bytes(blob[:_TIME], "big")
        try:
            signing.verify_note(key, _cosigned(text, at), blob[_TIME:])
        except signing.BadSignature as error:
            raise BadCheckpoint(f"The checkpoint is not what the witness {name} signed.") from error
        return at
    raise BadCheckpoint(f"The checkpoint carries no signature of the witness {name} under this key.")


def unverified(note: str) -> Checkpoint:
    """The checkpoint in a note whose signature was checked elsewhere. Raises BadCheckpoint where it is none."""
    return _parse(_signatures(note, "", b"")[0])


def verifier_key(name: str, key: signing.PublicKey, algorithm: bytes = ED25519) -> str:
    """A signer's name and public key in one line, as signed-note has it."""
    return f"{name}+{_key_id(name, key, algorithm).hex()}+{base64.b64encode(algorithm + key).decode()}"


def read_verifier_key(text: str, algorithm: bytes = ED25519) -> tuple[str, signing.PublicKey]:
    """The name and the key in such a line. Raises BadCheckpoint."""
    try:
        name, claimed, encoded = text.strip().split("+", 2)
        blob = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadCheckpoint("This is no verifier key: it looks like name+1a2b3c4d+AbCd….") from error
    key = signing.PublicKey(blob[1:])
    if blob[:1] != algorithm or len(key) != 32 or _key_id(name, key, algorithm).hex() != claimed:
        raise BadCheckpoint(f"The verifier key of '{name[:60]}' is damaged, or of another kind.")
    return name, key


def _signatures(note: str, name: str, key_id: bytes) -> tuple[str, list[bytes]]:
    """The text of a note, and what this signer's lines hold after the id of the key."""
    if len(note) > MAX_NOTE or "\n\n" not in note:
        raise BadCheckpoint("A checkpoint is not a signed note.")
    text, _, signatures = note.rpartition("\n\n")
    found = []
    for line in signatures.splitlines()[:MAX_SIGNATURES]:
        try:
            mark, signer, encoded = line.split(" ")
            blob = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            continue
        if (mark, signer, blob[:4]) == ("—", name, key_id):
            found.append(blob[4:])
    return text + "\n", found


def _cosigned(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


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


def _key_id(name: str, key: signing.PublicKey, algorithm: bytes = ED25519) -> bytes:
    return digest.sha256(name.encode() + b"\n" + algorithm + key)[:4]

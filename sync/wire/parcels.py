"""Files that carry journals, proofs and bundles where there is no line: frames, one after the other, each with its length.

What is in them is signed as it is on the wire: a stick is trusted as little as a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sync.kit import errors, files
from sync.wire import codec

MAGIC = b"ringfence-parcel-1\n"
MAX_FRAME = 33 * codec.MIB
_LENGTH = 4


class BadParcel(errors.Misconfigured):
    """The file is no parcel, or was cut off."""

    code = "bad_parcel"


def write(path: Path, frames: Iterable[bytes]) -> None:
    """Writes a parcel: whole, or not at all."""
    files.write_atomically(path, MAGIC + b"".join(len(frame).to_bytes(_LENGTH, "big") + frame for frame in frames))


def read(path: Path) -> Iterator[bytes]:
    """The frames of a parcel. Raises BadParcel."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise BadParcel(f"{path} is no file that Ringfence has written.")
            while head := file.read(_LENGTH):
                size = int.from_bytes(head, "big")
                frame = file.read(size) if len(head) == _LENGTH and size <= MAX_FRAME else b""
                if not frame or len(frame) != size:
                    raise BadParcel(f"{path} is damaged, or was cut off: copy it again.")
                yield frame
    except OSError as error:
        raise BadParcel(f"{path} cannot be read ({error.strerror}).") from error

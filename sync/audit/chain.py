"""The hash chain of one author's records.

An entry is the exact msgpack bytes that are stored and sent; nothing is canonicalised again. Its hash, SHA-256(0x00 ‖ entry),
is both the link of the chain and the leaf of the Merkle tree (RFC 6962). A signed head vouches for everything before it.

Invariants, each with a test of its words:
- a changed, removed, reordered or inserted entry is found, and named by its number;
- the last entry is covered too, by the signed head;
- an entry of another author or epoch does not pass.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from sync.crypto import digest, signing
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire import codec

VERSION = 1
GENESIS = bytes(digest.SIZE)
_OPENING = b"\x9b" + codec.pack(VERSION)
_HASH = b"\xc4\x20"
_FLOAT = 0xCB
_INTEGER = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9}
"""Bytes of a msgpack integer by its first one; a small one has no more."""
MAX_ENTRY = 60_000
"""Bytes; tiles hold entries of at most 65,535 (C2SP tlog-tiles)."""
MAX_SEEN = digest.SIZE
"""Bytes of `hub_seen`: one digest, or none."""
MAX_FORMS = 4096
"""Forms that are kept in memory, some 200 bytes each."""
_LARGEST = (1 << 63) - 1
"""The largest number that SQLite's integer keys have."""


class Broken(errors.Corrupt):
    """The chain does not hold at one entry, which the sentence names."""

    code = "chain_broken"


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as read back from its bytes."""

    tenant: TenantId
    author: AgentId
    epoch: Epoch
    sequence: int
    wall: float
    monotonic: float
    kind: str
    previous: bytes
    hub_seen: bytes
    fields: dict[str, object]


def encode(entry: Entry) -> bytes:
    """The bytes of an entry, which are hashed, signed, stored and sent as they are."""
    return make(
        entry.tenant, entry.author, entry.epoch, entry.sequence, entry.wall, entry.monotonic, entry.kind, entry.previous,
        entry.hub_seen, entry.fields,
    )  # fmt: skip


def make(
    tenant: TenantId, author: AgentId, epoch: Epoch, sequence: int, wall: float, monotonic: float, kind: str, previous: bytes,
    hub_seen: bytes, fields: dict[str, object],
) -> bytes:  # fmt: skip
    """The bytes of an entry of these parts. Raises Refused where they are over MAX_ENTRY."""
    data = codec.pack((VERSION, tenant, author, epoch, sequence, wall, monotonic, kind, previous, hub_seen, fields))
    if len(data) > MAX_ENTRY:
        raise errors.Refused(f"An audit record of {len(data)} bytes is over {MAX_ENTRY}.", code="record_too_large")
    return data


class Form(NamedTuple):
    """What the entries of one author, tenant and kind have in common, as bytes: `lead` stands before
    the number, and `kind` between the clocks and the hash of the one before. `size`: the bytes of an
    entry beside its fields, at most."""

    lead: bytes
    kind: bytes
    size: int


def forms(author: AgentId, epoch: Epoch) -> Callable[[TenantId, str], Form]:
    """Return what gives the form of this author's entries, by tenant and kind.

    It raises what the codec does where a name cannot be packed.
    """
    # An author has few tenants and kinds, and to pack these parts for each record costs a tenth of it.
    return functools.lru_cache(maxsize=MAX_FORMS)(functools.partial(_form, author, epoch))


def _form(author: AgentId, epoch: Epoch, tenant: TenantId, kind: str) -> Form:
    lead = _OPENING + codec.pack(tenant) + codec.pack(author) + codec.pack(epoch)
    last = codec.pack(kind) + _HASH
    largest = assemble(Form(lead, last, 0), _LARGEST, clocks(0.0, 0.0), GENESIS, codec.pack(bytes(MAX_SEEN)), b"")
    return Form(lead, last, len(largest))


def clocks(wall: float, monotonic: float) -> bytes:
    """Return the two times of an entry as bytes: seconds since 1970, and of the process's own clock."""
    return codec.pack(wall) + codec.pack(monotonic)


def assemble(of: Form, sequence: int, at: bytes, previous: bytes, seen: bytes, fields: bytes) -> bytes:
    """Return the same bytes as `make`, out of parts that are packed already; `at` comes from `clocks`.

    Does not look at the size: the caller does, by that of the form and of the fields.
    """
    return b"".join((of.lead, codec.pack(sequence), at, of.kind, previous, seen, fields))


def decode(data: bytes) -> Entry:
    """The entry in these bytes. Raises Corrupt."""
    if len(data) > MAX_ENTRY:
        raise errors.Corrupt(f"An audit record of {len(data)} bytes is over {MAX_ENTRY}.")
    match codec.unpack(data):
        case (
            int(version), str(tenant), str(author), str(epoch), int(sequence), float(wall), float(monotonic),
            str(kind), bytes(previous), bytes(hub_seen), dict(fields),
        ) if version == VERSION:  # fmt: skip
            return Entry(
                TenantId(tenant),
                AgentId(author),
                Epoch(epoch),
                sequence,
                wall,
                monotonic,
                kind,
                previous,
                hub_seen,
                fields,
            )
    raise errors.Corrupt("Bytes that are no audit record came.", code="bad_record")


def link(entry: bytes) -> bytes:
    """The hash of an entry's bytes: the next one's `previous`, and the leaf in the tree."""
    return sha256(b"\x00" + entry).digest()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a chain: the number of the next entry, and the hash of the last one."""

    author: AgentId
    epoch: Epoch
    next: int
    head: bytes


def start(author: AgentId, epoch: Epoch) -> Position:
    return Position(author, epoch, 0, GENESIS)


def follow(position: Position, entries: Iterable[bytes]) -> Position:
    """The position after these entries, each checked to be the next one. Raises Broken, naming the first that is not."""
    return links(position, entries)[1]


def links(position: Position, entries: Iterable[bytes]) -> tuple[list[bytes], Position]:
    """The hash of each of these entries, which are checked as by `follow`; and the position after them."""
    found: list[bytes] = []
    number, head = position.next, position.head
    whose = codec.pack(position.author) + codec.pack(position.epoch)
    fits = _Fits(whose)
    for data in entries:
        if fits.like_the_last(data, number, head) or fits.at_all(data, number, head):
            number, head = number + 1, sha256(b"\x00" + data).digest()
            found.append(head)
            continue
        name = f"record {number} of {position.author}, epoch {position.epoch}"
        try:
            entry = decode(data)
        except errors.Corrupt as error:
            raise Broken(f"{name} is not readable: {error}", sequence=number) from error
        if (entry.author, entry.epoch) != (position.author, position.epoch):
            raise Broken(f"{name} is signed out to {entry.author}, epoch {entry.epoch}.", sequence=number)
        if entry.sequence != number:
            raise Broken(f"{name} is missing: number {entry.sequence} stands in its place.", sequence=number)
        if entry.previous != head:
            raise Broken(f"{name} does not follow from the one before: one of the two was changed.", sequence=number)
        number, head = number + 1, link(data)
        found.append(head)
    return found, Position(position.author, position.epoch, number, head)


def tenant_of(data: bytes) -> TenantId:
    """Whose tree an entry belongs to. Raises Corrupt."""
    return TenantId(_string(data, len(_OPENING))[0])


def wall_of(data: bytes) -> float:
    """When an entry that was followed was written, by its author's wall clock: seconds since 1970."""
    at = len(_OPENING)
    for _ in range(3):
        at = _string(data, at)[1]
    at += _INTEGER.get(data[at], 1)
    return float(struct.unpack_from(">d", data, at + 1)[0])


class _Fits:
    """Whether entries are the next ones, by their bytes alone: many times as fast as reading all of each.

    What does not fit at once is read in full, to say what is wrong with it.
    """

    def __init__(self, whose: bytes) -> None:
        self._whose = whose
        self._lead = b""
        """What the last one began with, up to its number."""
        self._kind = b""
        """What stood between the clocks and the hash of the one before."""

    def like_the_last(self, data: bytes, number: int, head: bytes) -> bool:
        """Whether it is, where it begins and is of a kind as the one before: most are."""
        place = self._lead + (b"\xce" + number.to_bytes(4, "big") if 0xFFFF < number <= 0xFFFFFFFF else codec.pack(number))
        at = len(place)
        return (
            data.startswith(place)
            and len(data) <= MAX_ENTRY
            and data.startswith(self._kind + head, at + 18)
            and data[at] == data[at + 9] == _FLOAT
        )

    def at_all(self, data: bytes, number: int, head: bytes) -> bool:
        try:
            if not data.startswith(_OPENING) or len(data) > MAX_ENTRY:
                return False
            _, lead = _string(data, len(_OPENING))
            place = self._whose + codec.pack(number)
            if not data.startswith(place, lead):
                return False
            at = lead + len(place)
            if data[at] != _FLOAT or data[at + 9] != _FLOAT:
                return False
            _, end = _string(data, at + 18)
        except (IndexError, errors.Corrupt):
            return False
        if not data.startswith(_HASH + head, end):
            return False
        self._lead = data[:lead] + self._whose
        self._kind = data[at + 18 : end] + _HASH
        return True


def _string(data: bytes, at: int) -> tuple[str, int]:
    """The short msgpack string at this place, and where it ends."""
    try:
        first = data[at]
        if 0xA0 <= first < 0xC0:
            start, size = at + 1, first & 0x1F
        elif first == 0xD9:
            start, size = at + 2, data[at + 1]
        else:
            raise errors.Corrupt("Bytes that are no audit record came.", code="bad_record")
        return data[start : start + size].decode(), start + size
    except (IndexError, UnicodeDecodeError) as error:
        raise errors.Corrupt("Bytes that are no audit record came.", code="bad_record") from error


def sign_head(position: Position, signer: signing.Signer) -> bytes:
    """The author's signature over where its chain stands."""
    return signer.sign(signing.JOURNAL_HEAD, _head_bytes(position))


def verify_head(position: Position, key: signing.PublicKey, signature: bytes) -> None:
    """Returns where the author signed this very head. Raises Broken."""
    try:
        signing.verify(key, signing.JOURNAL_HEAD, _head_bytes(position), signature)
    except signing.BadSignature as error:
        number = position.next - 1
        raise Broken(
            f"record {number} of {position.author}, epoch {position.epoch} is not what its author signed.",
            sequence=number,
        ) from error


def _head_bytes(position: Position) -> bytes:
    return codec.pack((position.author, position.epoch, position.next, position.head))

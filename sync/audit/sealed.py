"""Sealed segments: an author's records that the hub has proved to hold, compressed, one file each. Does I/O.

They stay for the tenants' retention, so that a hub that was restored from a backup can ask for them again. Where a record's time
is over, its hash takes its place: the chain stays provable.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sync.audit import chain
from sync.kit import errors, files
from sync.kit.ids import AgentId, Epoch
from sync.wire import codec

MOST = 4096
"""Records in one segment."""
MAX_UNPACKED = 256 * codec.MIB
LINK = 32
"""A stored item of this many bytes is the hash of a record whose time is over; a record is always longer."""
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """Records `first` to `end` (exclusive): `items` are entries, or links where a record is gone."""

    before: chain.Position
    items: tuple[bytes, ...]

    @property
    def first(self) -> int:
        return self.before.next

    @property
    def end(self) -> int:
        return self.before.next + len(self.items)

    @property
    def after(self) -> chain.Position:
        """The position behind the segment."""
        return chain.Position(self.before.author, self.before.epoch, self.end, link_of(self.items[-1]))


def link_of(item: bytes) -> bytes:
    """The hash that an item stands for."""
    return item if len(item) == LINK else chain.link(item)


def follow(position: chain.Position, items: Sequence[bytes]) -> chain.Position:
    """The position after these items. A record whose time is over counts by its hash, which the next record names."""
    for is_gone, run in itertools.groupby(items, lambda item: len(item) == LINK):
        some = list(run)
        if is_gone:
            position = chain.Position(position.author, position.epoch, position.next + len(some), some[-1])
        else:
            position = chain.follow(position, some)
    return position


class Shelf:
    """The segments of one epoch in a folder, in order."""

    def __init__(self, folder: Path, author: AgentId, epoch: Epoch) -> None:
        self._folder = folder
        self._author = author
        self._epoch = epoch
        self._files: dict[int, tuple[int, Path, int]] = {}
        for path in sorted(folder.glob(f"{epoch}-*.seg")) if folder.exists() else ():
            self._remember(path)

    @property
    def used_bytes(self) -> int:
        """What the files take."""
        return sum(size for _, _, size in self._files.values())

    @property
    def first(self) -> int | None:
        """The first record that is kept, or None."""
        return min(self._files, default=None)

    @property
    def end(self) -> int | None:
        return max((end for end, _, _ in self._files.values()), default=None)

    def add(self, segment: Segment) -> None:
        """Keeps a segment, durably."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{self._epoch}-{segment.first:012d}-{segment.end:012d}.seg"
        before = segment.before
        packed = zlib.compress(codec.pack(segment.items), _LEVEL)
        files.write_atomically(
            path, codec.pack((before.author, before.epoch, before.next, before.head, packed)), mode=files.PRIVATE
        )
        self._remember(path)

    def drop(self, first: int) -> None:
        """Removes the segment that begins with this record."""
        _, path, _ = self._files.pop(first)
        path.unlink(missing_ok=True)

    def drop_from(self, number: int) -> None:
        """Removes segments of records that the database still has: a kill came between the two."""
        for first in [first for first in self._files if first >= number]:
            self.drop(first)

    def drop_below(self, number: int) -> None:
        """Removes segments whose tombstone was written already: a kill came between the two."""
        for first in [first for first, (end, _, _) in self._files.items() if end <= number]:
            self.drop(first)

    def segments(self) -> Iterator[Segment]:
        """Every segment, in order. Raises Corrupt where one is damaged."""
        for first in sorted(self._files):
            yield self._read(first)

    def read(self, number: int, limit: int) -> list[bytes]:
        """At most `limit` entries from this number on, out of one segment; none where it is not here, or a record is gone."""
        first = max((first for first in self._files if first <= number), default=None)
        if first is None or self._files[first][0] <= number:
            return []
        items = self._read(first).items[number - first :][:limit]
        gone = next((i for i, item in enumerate(items) if len(item) == LINK), len(items))
        return list(items[:gone])

    def expire(self, gone: Callable[[bytes], bool]) -> int:
        """Puts the hash in the place of each record that is to go; how many did."""
        count = 0
        for segment in self.segments():
            items = tuple(chain.link(item) if len(item) != LINK and gone(item) else item for item in segment.items)
            changed = sum(new is not old for new, old in zip(items, segment.items, strict=True))
            if changed:
                self.add(Segment(segment.before, items))
                count += changed
        return count

    def _remember(self, path: Path) -> None:
        _, first, end = path.stem.rsplit("-", 2)
        self._files[int(first)] = (int(end), path, path.stat().st_size)

    def _read(self, first: int) -> Segment:
        _, path, _ = self._files[first]
        try:
            match codec.unpack(path.read_bytes()):
                case (str(author), str(epoch), int(number), bytes(head), bytes(packed)) if (author, epoch, number) == (
                    self._author, self._epoch, first,
                ):  # fmt: skip
                    before = chain.Position(self._author, self._epoch, number, head)
                    return Segment(before, _items(packed))
        except (OSError, zlib.error) as error:
            raise errors.Corrupt(f"The sealed segment {path} cannot be read: {error}.", code="segment_damaged") from error
        raise errors.Corrupt(f"The sealed segment {path} is not what its name says.", code="segment_damaged")


def _items(packed: bytes) -> tuple[bytes, ...]:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, MAX_UNPACKED)
    items = codec.unpack(data)
    if unpacker.unconsumed_tail or not isinstance(items, tuple) or not items or not all(isinstance(i, bytes) for i in items):
        raise errors.Corrupt("A sealed segment holds what is no list of records.", code="segment_damaged")
    return items

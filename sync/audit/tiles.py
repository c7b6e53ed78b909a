"""A growing Merkle tree in tiles of 256 hashes (c2sp.org/tlog-tiles), which are written once and never changed.

Tile (level, index) holds the roots of 256 neighbouring subtrees of 256^level leaves each. Only full ones are stored; what
stands at the right edge is kept as the hashes that will fill the next ones.

Invariants, each with a test of its words:
- the root is that of RFC 6962, at every size;
- the root of any range that a proof asks for comes from at most a few tiles a level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sync.audit import merkle
from sync.audit.merkle import Range

HEIGHT = 8
WIDTH = 1 << HEIGHT
HASH = 32


@dataclass(frozen=True, slots=True)
class Tile:
    """A full tile: 256 hashes, and the one above them."""

    level: int
    index: int
    root: bytes
    hashes: bytes


@dataclass(frozen=True, slots=True)
class Edge:
    """A tree's size and its right edge: for each level the hashes, fewer than 256, that no full tile holds yet."""

    size: int = 0
    levels: tuple[tuple[bytes, ...], ...] = ()

    def extend(self, leaves: Sequence[bytes]) -> tuple[Edge, list[Tile]]:
        """The edge with these leaf hashes, and the tiles that they filled."""
        levels = [list(level) for level in self.levels] or [[]]
        full: list[Tile] = []
        levels[0].extend(leaves)
        size = self.size + len(leaves)
        for height in range(len(levels) + 1):
            if height == len(levels) or len(levels[height]) < WIDTH:
                break
            first = (size >> (HEIGHT * height)) - len(levels[height])
            made = _cut(levels[height], height, first // WIDTH)
            full.extend(made)
            levels[height] = levels[height][len(made) * WIDTH :]
            if height + 1 == len(levels):
                levels.append([])
            levels[height + 1].extend(tile.root for tile in made)
        return Edge(size, tuple(tuple(level) for level in levels)), full

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves."""
        if not self.size:
            return merkle.EMPTY_ROOT
        rest: tuple[bytes, ...] = ()
        for level in self.levels:
            if level or rest:
                rest = (merkle.fold(level + rest),)
        return rest[0]


def _cut(hashes: Sequence[bytes], level: int, index: int) -> list[Tile]:
    made = []
    for first in range(0, len(hashes) - len(hashes) % WIDTH, WIDTH):
        part = hashes[first : first + WIDTH]
        made.append(Tile(level, index + first // WIDTH, merkle.fold(part), b"".join(part)))
    return made


def perfect(low: int, high: int) -> list[tuple[int, int]]:
    """The (height, index) of the perfect subtrees that a range of a tree consists of, from left to right."""
    found = []
    while low < high:
        height = min((low & -low).bit_length() - 1 if low else 64, (high - low).bit_length() - 1)
        found.append((height, low >> height))
        low += 1 << height
    return found


def needed(ranges: Iterable[Range]) -> set[tuple[int, int]]:
    """The (level, index) of the tiles, full or at the edge, from which the roots of these ranges come."""
    return {_place(height, index)[:2] for low, high in ranges for height, index in perfect(low, high)}


def roots(ranges: Iterable[Range], read: Callable[[int, int], bytes]) -> list[bytes]:
    """The root of each range. `read` gives the hashes of a tile that `needed` has named, as far as there are any."""
    return [_root(low, high, read) for low, high in ranges]


def _root(low: int, high: int, read: Callable[[int, int], bytes]) -> bytes:
    parts = [_subtree(height, index, read) for height, index in perfect(low, high)]
    root = parts.pop()
    while parts:
        root = merkle.node(parts.pop(), root)
    return root


def _subtree(height: int, index: int, read: Callable[[int, int], bytes]) -> bytes:
    level, tile, first, width = _place(height, index)
    hashes = read(level, tile)
    part = hashes[first * HASH : (first + width) * HASH]
    if len(part) != width * HASH:
        raise merkle.BadProof(f"Tile {level}/{tile} lacks hashes {first} to {first + width - 1}.")
    return merkle.fold([part[i : i + HASH] for i in range(0, len(part), HASH)])


def _place(height: int, index: int) -> tuple[int, int, int, int]:
    """(level, tile, first hash, hashes) of a perfect subtree of 2^height leaves."""
    level, within = divmod(height, HEIGHT)
    first = index << within
    return level, first // WIDTH, first % WIDTH, 1 << within

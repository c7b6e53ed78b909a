"""Merkle trees as in RFC 6962, section 2.1: roots, and the proofs over them. Hashes in, hashes out; no storage.

A leaf hash is SHA-256(0x00 ‖ entry); a node is SHA-256(0x01 ‖ left ‖ right). A proof is made as a path, the ranges of leaves
whose roots it consists of: whoever holds the tree gives the root of each range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from sync.crypto import digest
from sync.kit import errors

EMPTY_ROOT = digest.sha256(b"")
Range = tuple[int, int]
"""The leaves from the first number up to, not including, the second."""


class BadProof(errors.Corrupt):
    """The proof does not lead to the root."""

    code = "bad_proof"


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """MTH of these hashes: paired from the left, an odd one carried up as it is, which is what the RFC's definition comes to."""
    if not hashes:
        return EMPTY_ROOT
    level = hashes
    while len(level) > 1:
        paired = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        if len(level) & 1:
            paired.append(level[-1])
        level = paired
    return level[0]


def inclusion_path(index: int, size: int) -> list[Range]:
    """PATH(index, D[size]): the ranges whose roots lead from one leaf to the root, the nearest first."""
    path: list[Range] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append((middle, high))
            high = middle
        else:
            path.append((low, middle))
            low = middle
    return path[::-1]


def consistency_path(old: int, size: int) -> list[Range]:
    """PROOF(old, D[size]): the ranges whose roots show that the tree of the first `old` leaves is a prefix of this one."""
    path: list[Range] = []
    low, high = 0, size
    while old not in (0, size) and high != old:
        middle = low + _split(high - low)
        if old <= middle:
            path.append((middle, high))
            high = middle
        else:
            path.append((low, middle))
            low = middle
    if path and low:
        path.append((low, high))
    return path[::-1]


def coverage_path(covered: Sequence[Range], size: int) -> list[Range]:
    """The largest ranges of the tree without a covered leaf, from left to right: what shows many leaves at once.

    `covered` is in order and does not overlap.
    """
    return [part for part, inside in _cover(covered, 0, size) if not inside]


def coverage_root(covered: Sequence[Range], leaves: Mapping[int, bytes], size: int, proof: Sequence[bytes]) -> bytes:
    """The root of the tree in which these leaves stand, where the proof has the roots of `coverage_path`. Raises BadProof."""
    given = iter(proof)
    try:
        root = _covered_root(list(covered), leaves, 0, size, given)
    except (StopIteration, KeyError) as error:
        raise BadProof("The proof of many leaves is too short.") from error
    if next(given, None) is not None:
        raise BadProof("The proof of many leaves is too long.")
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> None:
    """Returns where the leaf stands at this index under this root (RFC 9162, section 2.1.3.2). Raises BadProof."""
    if not 0 <= index < size:
        raise BadProof(f"Index {index} is not in a tree of {size}.")
    fn, sn, at = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            raise BadProof("The inclusion proof is too long.")
        if fn & 1 or fn == sn:
            at = node(sibling, at)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            at = node(at, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or not digest.equal(at, expected):
        raise BadProof(f"Leaf {index} is not in the tree of this root.")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Returns where the old tree is a prefix of the new one (RFC 9162, section 2.1.4.2). Raises BadProof."""
    if old > new or old < 0:
        raise BadProof(f"A tree of {old} is no prefix of one of {new}.")
    if old in (0, new):
        same = digest.equal(old_root, new_root) if old == new else digest.equal(old_root, EMPTY_ROOT)
        if proof or not same:
            raise BadProof("The trees differ, or the proof should be empty.")
        return
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise BadProof("The consistency proof is empty.")
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            raise BadProof("The consistency proof is too long.")
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or not digest.equal(fr, old_root) or not digest.equal(sr, new_root):
        raise BadProof("The old tree is no prefix of the new one.")


def _cover(covered: Sequence[Range], low: int, high: int) -> Iterator[tuple[Range, bool]]:
    """The subtrees of [low, high) from left to right that are wholly covered leaves (True) or have none (False)."""
    touching = [part for part in covered if part[0] < high and part[1] > low]
    if not touching:
        yield (low, high), False
    elif high - low == 1:
        yield (low, high), True
    else:
        middle = low + _split(high - low)
        yield from _cover(touching, low, middle)
        yield from _cover(touching, middle, high)


def _covered_root(covered: Sequence[Range], leaves: Mapping[int, bytes], low: int, high: int, proof: Iterator[bytes]) -> bytes:
    touching = [part for part in covered if part[0] < high and part[1] > low]
    if not touching:
        return next(proof)
    if high - low == 1:
        return leaves[low]
    middle = low + _split(high - low)
    left = _covered_root(touching, leaves, low, middle, proof)
    return node(left, _covered_root(touching, leaves, middle, high, proof))


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)

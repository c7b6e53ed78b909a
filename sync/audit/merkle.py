"""Merkle trees as in RFC 6962, section 2.1: roots, inclusion and consistency proofs. Hashes in, hashes out; no storage.

`leaves` are leaf hashes, SHA-256(0x00 ‖ entry); a node is SHA-256(0x01 ‖ left ‖ right).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sync.crypto import digest
from sync.kit import errors

EMPTY_ROOT = digest.sha256(b"")


class BadProof(errors.Corrupt):
    """The proof does not lead to the root."""

    code = "bad_proof"


def node(left: bytes, right: bytes) -> bytes:
    return digest.sha256(b"\x01" + left + right)


@dataclass(frozen=True, slots=True)
class Tree:
    """An append-only tree as its peaks: the roots of its perfect subtrees, the largest first (at most 64 hashes)."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Tree:
        """The tree with one leaf more. Amortised one hash."""
        peaks, size = list(self.peaks), self.size
        carried = leaf
        while size & 1:
            carried = node(peaks.pop(), carried)
            size >>= 1
        return Tree(self.size + 1, (*peaks, carried))

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node(peak, root)
        return root


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]), by its definition."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return node(root(leaves[:split]), root(leaves[split:]))


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(index, D[n]): the hashes that lead from one leaf to the root, the nearest first."""
    if len(leaves) <= 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), root(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), root(leaves[:split])]


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


def consistency_proof(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """PROOF(old, D[n]): what shows that the tree of the first `old` leaves is a prefix of this one."""
    if old in (0, len(leaves)):
        return []
    return _subproof(leaves, old, True)


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


def _subproof(leaves: Sequence[bytes], old: int, whole: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if whole else [root(leaves)]
    split = _split(len(leaves))
    if old <= split:
        return [*_subproof(leaves[:split], old, whole), root(leaves[split:])]
    return [*_subproof(leaves[split:], old - split, False), root(leaves[:split])]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)

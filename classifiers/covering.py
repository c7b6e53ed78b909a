"""Findings of contexts that say nothing new: what a text's own finding has found already is not counted twice."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from classifiers.verdict import Finding
from sync.wire.contexts import Context


def uncovered(context: Context, findings: Iterable[Finding], own: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Return the findings of a context that the texts' own findings of the same category do not cover.

    Args:
        context: What was read.
        findings: What was found in it.
        own: What was found in each text, in text order and without overlaps.
    """
    starts = [piece.start for piece in context.pieces]
    return [finding for finding in findings if not _covered(context, starts, finding, own)]


def _covered(context: Context, starts: Sequence[int], finding: Finding, own: Sequence[Sequence[Finding]]) -> bool:
    at = finding.start
    for start, end, text, offset in _overlapped(context, starts, finding):
        if _says(context.text[at:start]) or not _inside(own[text], offset, offset + end - start, finding.category):
            return False
        at = end
    return at > finding.start and not _says(context.text[at : finding.end])


def _overlapped(context: Context, starts: Sequence[int], finding: Finding) -> Iterator[tuple[int, int, int, int]]:
    """Yield the parts of pieces that a finding covers: start and end in the context, text, and start there."""
    for piece in context.pieces[max(0, bisect_right(starts, finding.start) - 1) : bisect_left(starts, finding.end)]:
        start, end = max(piece.start, finding.start), min(piece.end, finding.end)
        if start < end:
            yield start, end, piece.text, piece.offset + start - piece.start


def _inside(own: Sequence[Finding], start: int, end: int, category: str) -> bool:
    index = bisect_right(own, start, key=lambda finding: finding.start) - 1
    return index >= 0 and own[index].end >= end and own[index].category == category


def _says(between: str) -> bool:
    return any(map(str.isalnum, between))

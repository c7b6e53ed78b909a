"""What a classification gives: findings, and the assessment made of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sync.wire.levels import Level


@dataclass(frozen=True, slots=True)
class Finding:
    """One span `[start, end)` of characters in one of the request's texts, `text` being its index."""

    start: int
    end: int
    type: str
    category: str
    score: float
    recognizer: str
    text: int = 0


@dataclass(frozen=True, slots=True)
class Assessment:
    """The findings of one request, and the level that follows.

    `failed`: the scanner broke, and the level is the highest. `model`: whether the model looked, and if
    not, why: `ran`, `absent`, `not_needed` (the patterns had found the highest level already),
    `over_budget` (the request has more words than the tenant lets the model read: the level is at
    least the tenant's floor).
    """

    level: Level
    findings: tuple[Finding, ...]
    failed: bool = False
    model: str = "absent"
    subject: tuple[Finding, ...] = ()
    """What the texts as wholes are about, as findings that span all of a text."""

    @property
    def read_whole(self) -> bool:
        """Whether the request was read to its end: only then is what was not found not there."""
        return not self.failed and self.model != "over_budget"

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories found, sorted."""
        if not self.findings and not self.subject:
            return ()
        return tuple(sorted({finding.category for finding in (*self.findings, *self.subject)}))

    def counts(self) -> dict[str, int]:
        """How many of each type: all that a log may know of them."""
        return dict(sorted(Counter(finding.type for finding in self.findings).items()))


FAILED_CLOSED = Assessment(Level.RESTRICTED, (), failed=True)


def without_overlaps(found: Iterable[Finding], rank: Callable[[str, str, float], float]) -> list[Finding]:
    """Of findings of one text that overlap, the one of the higher rank; then the longest; then the first. In text order."""
    starts: list[int] = []
    kept: list[Finding] = []
    for finding in sorted(found, key=lambda f: (-rank(f.category, f.type, f.score), f.start - f.end, f.start)):
        at = bisect_left(starts, finding.end)
        # What is kept does not overlap: only the last that begins before this one's end can reach into it.
        if at and kept[at - 1].end > finding.start:
            continue
        starts.insert(at, finding.start)
        kept.insert(at, finding)
    return kept

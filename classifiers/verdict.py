"""What a classification gives: findings, and the assessment made of them."""

from __future__ import annotations

from collections import Counter
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
    """The findings of one request, and the level that follows. `failed`: the scanner broke, and the level is the highest."""

    level: Level
    findings: tuple[Finding, ...]
    failed: bool = False

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories found, sorted."""
        return tuple(sorted({finding.category for finding in self.findings})) if self.findings else ()

    def counts(self) -> dict[str, int]:
        """How many of each type: all that a log may know of them."""
        return dict(sorted(Counter(finding.type for finding in self.findings).items()))


FAILED_CLOSED = Assessment(Level.RESTRICTED, (), failed=True)

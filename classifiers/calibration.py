"""From findings to a level: a table by category and type, and what several of them together mean.

Invariants, each with a test of its words:
- one finding more never lowers the level;
- a category that the table does not know counts as restricted.
"""

from __future__ import annotations

from collections.abc import Iterable

from classifiers.verdict import Finding
from sync.wire.levels import Level

BY_CATEGORY = {
    "credential": Level.RESTRICTED,
    "pci": Level.RESTRICTED,
    "phi": Level.RESTRICTED,
    "government_id": Level.RESTRICTED,
    "financial": Level.RESTRICTED,
    "marked_restricted": Level.RESTRICTED,
    "marked_confidential": Level.CONFIDENTIAL,
    "marked_internal": Level.INTERNAL,
    "pii": Level.INTERNAL,
    "network": Level.INTERNAL,
}
BY_TYPE = {"DATE_OF_BIRTH": Level.CONFIDENTIAL}
TOGETHER = 2
"""So many kinds of personal data in one request identify somebody: confidential."""
MANY = 5
"""So many pieces of personal data are a list of people: confidential."""


def level_of(findings: Iterable[Finding]) -> Level:
    """The level that follows from these findings; public where there are none."""
    level = Level.PUBLIC
    personal_types: set[str] = set()
    personal = 0
    for finding in findings:
        own = BY_TYPE.get(finding.type, BY_CATEGORY.get(finding.category, Level.RESTRICTED))
        level = max(level, own)
        if finding.category == "pii":
            personal_types.add(finding.type)
            personal += 1
    if len(personal_types) >= TOGETHER or personal >= MANY:
        level = max(level, Level.CONFIDENTIAL)
    return level

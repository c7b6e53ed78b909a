"""From findings to a level: a table by category and type, and what several findings together mean. A tenant may change the table.

Invariants, each with a test of its words:
- one finding more never lowers the level;
- a category that the table does not know counts as restricted;
- a declared floor only raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from classifiers.verdict import Finding
from sync.wire.levels import Level

BY_CATEGORY: Mapping[str, Level] = {
    "credential": Level.RESTRICTED,
    "pci": Level.RESTRICTED,
    "phi": Level.RESTRICTED,
    "government_id": Level.RESTRICTED,
    "financial": Level.RESTRICTED,
    "legal": Level.RESTRICTED,
    "insider": Level.RESTRICTED,
    "marked_restricted": Level.RESTRICTED,
    "subject_restricted": Level.RESTRICTED,
    "denied": Level.RESTRICTED,
    "marked_confidential": Level.CONFIDENTIAL,
    "subject_confidential": Level.CONFIDENTIAL,
    "phi_detail": Level.CONFIDENTIAL,
    "business": Level.CONFIDENTIAL,
    "security": Level.CONFIDENTIAL,
    "confidential_detail": Level.CONFIDENTIAL,
    "source_code": Level.CONFIDENTIAL,
    "marked_internal": Level.INTERNAL,
    "subject_internal": Level.INTERNAL,
    "pii": Level.INTERNAL,
    "network": Level.INTERNAL,
    "health_term": Level.PUBLIC,
    "special_term": Level.PUBLIC,
    "quasi_identifier": Level.PUBLIC,
    "code": Level.PUBLIC,
}
BY_TYPE: Mapping[str, Level] = {"DATE_OF_BIRTH": Level.CONFIDENTIAL}
TOGETHER = 2
"""So many kinds of personal data in one request identify somebody: confidential."""
MANY = 5
"""So many pieces of personal data are a list of people: confidential."""
LEAST_SCORE = 0.5
"""A finding less sure than this is shown, and decides nothing."""
SPECIAL = frozenset({"phi_detail", "health_term", "special_term"})
IDENTIFYING = frozenset(
    {"PERSON", "EMAIL_ADDRESS", "PHONE_NUMBER", "STREET_ADDRESS", "USERNAME", "DATE_OF_BIRTH", "EMPLOYEE_ID", "CUSTOMER_ID"}
)
"""Types that say who it is: with health, faith, politics, union, sexual life or crime (GDPR, articles 9 and 10), restricted."""


@dataclass(frozen=True, slots=True)
class Table:
    """A tenant's table: what it changes of the default one. A type's own entry goes before its category's."""

    categories: Mapping[str, Level] = field(default_factory=dict)
    types: Mapping[str, Level] = field(default_factory=dict)
    together: int = TOGETHER
    many: int = MANY
    least_score: float = LEAST_SCORE

    def of(self, finding: Finding) -> Level:
        """The level of one finding alone."""
        kind, category = finding.type, finding.category
        if kind in self.types:
            return self.types[kind]
        if category in self.categories:
            return self.categories[category]
        return BY_TYPE.get(kind, BY_CATEGORY.get(category, Level.RESTRICTED))

    def level_of(self, findings: Iterable[Finding], floor: Level = Level.PUBLIC) -> Level:
        """The level that follows from these findings, and at least the floor; public where there are none."""
        level = floor
        kinds: set[str] = set()
        personal = 0
        identified = special = False
        for finding in findings:
            if finding.score < self.least_score:
                continue
            level = max(level, self.of(finding))
            if finding.category == "pii":
                kinds.add(finding.type)
                personal += 1
                identified = identified or finding.type in IDENTIFYING
            elif finding.category in SPECIAL:
                special = True
        if level < Level.CONFIDENTIAL and (len(kinds) >= self.together or personal >= self.many):
            level = Level.CONFIDENTIAL
        if identified and special:
            level = Level.RESTRICTED
        return level


DEFAULT = Table()
LEVEL_WEIGHT = 0.06
"""How much surer a finding of the next lower level must be to win over one of the higher."""
RANKED_AT_LEAST = {"PERSON": Level.INTERNAL}
"""Types that rank as this level at least. A name is `quasi_identifier` in a public text, else `pii`:
if its rank rose with the text's subject, a higher subject score could displace a graver finding."""


def rank(category: str, kind: str, score: float) -> float:
    """What decides between findings that overlap, greater first: how sure, and how sensitive by the default table."""
    level = BY_TYPE.get(kind, BY_CATEGORY.get(category, Level.RESTRICTED))
    return score + LEVEL_WEIGHT * max(level, RANKED_AT_LEAST.get(kind, Level.PUBLIC))

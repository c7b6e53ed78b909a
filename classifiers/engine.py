"""The classifier: texts in, an assessment out.

    from classifiers.engine import Classifier
    Classifier().assess(["My card is 4111 1111 1111 1111"]).level

Invariants, each with a test of its words:
- an error of the scanner makes the level restricted, never public;
- findings point into the original text;
- no two findings of one text overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classifiers import calibration, normalise
from classifiers.matching import Matcher
from classifiers.recognizers import contact, finance, health, identity, markings, network, secrets
from classifiers.recognizers.rule import Rule
from classifiers.verdict import FAILED_CLOSED, Assessment, Finding
from sync.kit import logs

log = logs.get("classifier")
RULES: tuple[Rule, ...] = (
    *secrets.RULES, *finance.RULES, *identity.RULES, *health.RULES, *contact.RULES, *network.RULES, *markings.RULES,
)  # fmt: skip


class Classifier:
    """Compiled recognizers. Costs some milliseconds to make, and is safe to share between threads."""

    def __init__(self, rules: Sequence[Rule] = RULES) -> None:
        self._rules = tuple(rules)
        self._matcher = Matcher([rule.pattern for rule in self._rules])

    def assess(self, texts: Sequence[str]) -> Assessment:
        """The assessment of one request: all its texts together. Never raises; fails closed."""
        try:
            findings = [finding for i, text in enumerate(texts) for finding in self._scan(text, i)]
            return Assessment(calibration.level_of(findings), tuple(findings))
        except Exception as error:
            log.error("classification_failed", error=type(error).__name__)
            return FAILED_CLOSED

    def _scan(self, text: str, index: int) -> list[Finding]:
        normal = normalise.normalise(text)
        data = normal.text.encode()
        hits = self._matcher.hits(data)
        if not hits:
            return []
        shifted = len(data) != len(normal.text)
        found = []
        for rule, first, last in self._candidates(data, hits):
            inside = (len(data[:first].decode()), len(data[:last].decode())) if shifted else (first, last)
            start, end = normal.span(*inside)
            found.append(Finding(start, end, rule.type, rule.category, rule.score, rule.name, index))
        return without_overlaps(found)

    def _candidates(self, data: bytes, hits: Sequence[int]) -> Iterator[tuple[Rule, int, int]]:
        for hit in hits:
            rule = self._rules[hit]
            for start, end in self._matcher.spans(data, hit, rule.accepts, rule.edges):
                yield rule, start, end


def without_overlaps(found: Sequence[Finding]) -> list[Finding]:
    """Of findings that overlap, the most sensitive; then the surest; then the longest; then the first. In text order."""
    kept: list[Finding] = []
    for finding in sorted(found, key=_rank):
        if all(finding.end <= other.start or other.end <= finding.start for other in kept):
            kept.append(finding)
    return sorted(kept, key=lambda finding: finding.start)


def _rank(finding: Finding) -> tuple[float, float, int, int]:
    return -calibration.level_of((finding,)), -finding.score, finding.start - finding.end, finding.start

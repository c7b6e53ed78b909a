"""The classifier: texts in, an assessment out.

    from classifiers.engine import Classifier
    Classifier().assess(["My card is 4111 1111 1111 1111"]).level

Invariants, each with a test of its words:
- an error of the scanner makes the level restricted, never public;
- findings point into the original text;
- no two findings of one text overlap;
- what was read for one tenant is not remembered for another;
- a request that is longer than the model's budget is at least of the tenant's floor;
- the same texts have the same assessment on every machine, under any load, whatever was read
  before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from classifiers import calibration, covering, hidden, profile
from classifiers.matching import Engine
from classifiers.ner.tagger import MODEL, Reading, Tagger
from classifiers.normalise import Normal, normalise
from classifiers.profile import Profile
from classifiers.recognizers import catalogue
from classifiers.recognizers.rule import Rule
from classifiers.scanner import Scanner, Span
from classifiers.subject import SUBJECT_TYPE, findings_of
from classifiers.verdict import FAILED_CLOSED, Assessment, Finding, without_overlaps
from sync.wire.contexts import Context
from sync.wire.levels import Level

MAX_READINGS = 16_384
"""Texts whose readings are remembered: digests and places, no text. About 30 MB."""
MAX_PROFILES = 4_096
MAX_SCANNERS = 64
"""Tenants' own sets of rules kept compiled at once."""


class Classifier:
    """Compiled recognizers, and the model where there is one. Safe to share between threads."""

    def __init__(self, rules: Sequence[Rule] | None = None, *, model: Tagger | None = None, engine: Engine | None = None) -> None:
        self._base = None if rules is None else tuple(rules)
        self._engine = engine
        self._model = model
        self._compiled = lru_cache(MAX_SCANNERS)(self._compile)
        self._by_profile: dict[int, tuple[Profile, Scanner]] = {}
        self._readings: dict[tuple[int, bytes], Reading] = {}
        self._scanner(profile.DEFAULT)

    def is_quick(self, texts: Sequence[str], settings: Profile) -> bool:
        """Whether `assess` takes no longer than the patterns: the model is off, or has read all of them for this tenant."""
        if self._model is None or not settings.use_model:
            return True
        if not self._readings:
            return False
        left = settings.budget_words
        for text in texts:
            known = self._readings.get((id(settings), hash_of(normalise(text).text)))
            if known is None or known.cost > left:
                return False
            left -= known.cost
        return True

    def assess(
        self,
        texts: Sequence[str],
        settings: Profile = profile.DEFAULT,
        *,
        all_spans: bool = False,
        contexts: Sequence[Context] = (),
    ) -> Assessment:
        """Return the assessment of one request: all its texts together. Never raises; fails closed.

        The model is asked only where it can change the level, unless all spans are wanted (for redaction).

        Args:
            contexts: What belongs together in the texts. What is found in the n-th of them alone has
                `text` = len(texts) + n: it counts for the level, and cannot be redacted.
        """
        try:
            return self._assess(texts, settings, contexts, all_spans=all_spans)
        except Exception:
            return FAILED_CLOSED

    def _assess(self, texts: Sequence[str], settings: Profile, contexts: Sequence[Context], *, all_spans: bool) -> Assessment:
        normals = [normalise(text) for text in texts]
        found = self._patterns(normals, settings)
        state, floor = self._why_not(found, settings, all_spans=all_spans), Level.PUBLIC
        if state == "ran" and not self._read_into(found, normals, settings):
            state, floor = "over_budget", settings.floor_over_budget
        own = [_kept(part, text, settings) for text, part in zip(texts, found, strict=True)]
        kept = tuple(finding for part in (*own, *self._read_together(contexts, own, settings)) for finding in part)
        subject = tuple(finding for part in found for finding in part if finding.type == SUBJECT_TYPE)
        return Assessment(settings.table.level_of((*kept, *subject), floor), kept, model=state, subject=subject)

    def _patterns(self, normals: Sequence[Normal], settings: Profile) -> list[list[Finding]]:
        """What the patterns find, a list for each text."""
        scanner = self._scanner(settings)
        found = [list(_of_text(scanner, normal, index)) for index, normal in enumerate(normals)]
        if len(normals) > 1:
            for finding in _across(scanner, normals):
                found[finding.text].append(finding)
        return found

    def _read_together(
        self, contexts: Sequence[Context], own: Sequence[Sequence[Finding]], settings: Profile
    ) -> Iterator[list[Finding]]:
        """Yield what the patterns find in each context and not in the texts.

        The patterns alone: the model takes the names in an empty form for what is filled in, and makes a
        schema with a name and an e-mail restricted. And nothing is decoded: that is done text by text.
        """
        scanner = self._scanner(settings)
        for index, context in enumerate(contexts, len(own)):
            normal = normalise(context.text)
            spans = scanner.scan(normal)[0]
            found = [_finding(span, *normal.span(span.start, span.end), index) for span in spans]
            yield covering.uncovered(context, _kept(found, context.text, settings), own)

    def _why_not(self, found: Sequence[Sequence[Finding]], settings: Profile, *, all_spans: bool) -> str:
        """`ran` where the model is to look, else why it need not or cannot."""
        if self._model is None or not settings.use_model:
            return "absent"
        if not all_spans and settings.table.level_of(finding for part in found for finding in part) >= settings.highest:
            return "not_needed"
        return "ran"

    def _read_into(self, found: list[list[Finding]], normals: Sequence[Normal], settings: Profile) -> bool:
        """Add what the model reads; return whether the budget was enough for all of it."""
        left = settings.budget_words
        complete = True
        for index, normal in enumerate(normals):
            reading = self._reading(normal.text, settings, left)
            found[index].extend(findings_of(reading, normal, index, found[index]))
            left = left - reading.cost if reading.complete else 0
            complete = complete and reading.complete
        return complete

    def _reading(self, text: str, settings: Profile, limit: int) -> Reading:
        """What the model reads in a text; remembered by digest, for this tenant alone: a chat brings all its turns each time."""
        assert self._model is not None  # noqa: S101 - asked for only then
        if settings is profile.DEFAULT:
            return self._model.read(text, limit)
        key = (id(settings), hash_of(text))
        known = self._readings.get(key)
        # What is remembered costs as much as when it was read: else the second of two equal
        # requests would get another level.
        if known is not None and known.cost <= limit:
            return known
        reading = self._model.read(text, limit)
        if reading.complete:
            if len(self._readings) >= MAX_READINGS:
                self._readings.clear()
            self._readings[key] = reading
        return reading

    def _scanner(self, settings: Profile) -> Scanner:
        """The scanner of a profile: by its identity first, as comparing hundreds of rules for each request would take longer."""
        known = self._by_profile.get(id(settings))
        if known is not None and known[0] is settings:
            return known[1]
        scanner = self._compiled(settings.regions, settings.rules, settings.disabled)
        if len(self._by_profile) >= MAX_PROFILES:  # a number may be given again to another profile: what is kept by it goes, too
            self._by_profile.clear()
            self._readings.clear()
        self._by_profile[id(settings)] = (settings, scanner)
        return scanner

    def _compile(self, regions: tuple[str, ...], own: tuple[Rule, ...], disabled: frozenset[str]) -> Scanner:
        base = catalogue.rules(regions) if self._base is None else self._base
        rules = [rule for rule in (*base, *own) if rule.name not in disabled and rule.type not in disabled]
        return Scanner(rules, self._engine, hidden.SIGNALS)


def hash_of(text: str) -> bytes:
    """The digest that a text is remembered by (BLAKE2b)."""
    import hashlib  # noqa: PLC0415 - it brings OpenSSL along, which the classifier alone does not need

    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=20).digest()


def load(model: Path = MODEL) -> Classifier:
    """The classifier with its model, as hub and agent use it; patterns alone where the file is not installed."""
    return Classifier(model=Tagger(model) if model.exists() else None)


def _of_text(scanner: Scanner, normal: Normal, index: int) -> Iterator[Finding]:
    """What the patterns find in one text: as it stands, decoded, and with its spaced letters joined."""
    spans, signals = scanner.scan(normal)
    for span in spans:
        yield _finding(span, *normal.span(span.start, span.end), index)
    if signals & hidden.ENCODED:
        for inner in hidden.encoded(normal.text, in_pairs=1 in signals):
            where = normal.span(inner.start, inner.end)
            for span in _telling(scanner, inner.normal):
                yield _finding(span, *where, index)
    if signals & hidden.SPACED:
        for run, start in hidden.spaced(normal.text):
            for span in _telling(scanner, run):
                first, last = run.span(span.start, span.end)
                yield _finding(span, *normal.span(start + first, start + last), index)


def _telling(scanner: Scanner, normal: Normal) -> list[Span]:
    """The spans that hidden text counts for."""
    return [span for span in scanner.scan(normal)[0] if span.rule.category not in _TOO_COMMON]


_TOO_COMMON = frozenset({"quasi_identifier", "code", "network"})
"""Categories that decoded noise may look like by chance and that hide nothing."""


def _across(scanner: Scanner, normals: Sequence[Normal]) -> Iterator[Finding]:
    """What stands half in one message and half in another: a finding in each of them."""
    joined = hidden.split([normal.text for normal in normals])
    if joined is None:
        return
    for span in _telling(scanner, Normal(joined.text)):
        parts = joined.parts(span.start, span.end)
        if len(parts) > 1:
            for index, start, end in parts:
                yield _finding(span, *normals[index].span(start, end), index)


def _finding(span: Span, start: int, end: int, index: int) -> Finding:
    rule = span.rule
    return Finding(start, end, rule.type, rule.category, rule.score, rule.name, index)


def _kept(found: Sequence[Finding], text: str, settings: Profile) -> list[Finding]:
    """The spans without overlaps, and without what the tenant allows."""
    if not found:
        return []
    allow = settings.allow
    spans = [f for f in found if f.type != SUBJECT_TYPE and (not allow or text[f.start : f.end].casefold() not in allow)]
    return without_overlaps(spans, calibration.rank)

"""What a tenant wants of the classifier: its own recognizers, lists, regions, table and limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from classifiers import calibration
from classifiers.context import Words
from classifiers.matching import HAS_RE2, BadPattern, Re2
from classifiers.recognizers import contact, phone_plans
from classifiers.recognizers.rule import WORD, Rule
from sync.kit import errors
from sync.wire.levels import Level

MAX_PATTERN = 1_000
"""Characters of a customer's pattern."""
MAX_RULES = 200
MAX_LIST = 10_000
"""Entries of a deny or allow list."""
MAX_ENTRY = 200
BUDGET_WORDS = 16_384
"""Words of one request that the model reads. 20 KB are 3,700 words of a licence, 6,600 of JSON,
7,200 of dense JSON lines: all are read whole, and so are about 80 KB of prose. At 13 to 26 µs a word
it is at most half a second of one core."""


class BadProfile(errors.Misconfigured):
    """A tenant's classification settings cannot be used."""

    code = "bad_classification"


@dataclass(frozen=True, slots=True)
class Profile:
    """A tenant's settings. `highest`: the highest level that it treats unlike the next lower one; above it the model is not needed.

    `budget_words`: words of one request that the model reads, a shorter text counting as
    `tagger.LEAST_COST`; never a time, as the level must not depend on the machine or its load.
    `floor_over_budget`: the least level of a request that has more.
    """

    rules: tuple[Rule, ...] = ()
    allow: frozenset[str] = frozenset()
    regions: tuple[str, ...] = contact.REGIONS
    table: calibration.Table = field(default_factory=calibration.Table)
    disabled: frozenset[str] = frozenset()
    use_model: bool = True
    budget_words: int = BUDGET_WORDS
    floor_over_budget: Level = Level.RESTRICTED
    highest: Level = Level.RESTRICTED


DEFAULT = Profile()


def custom_rule(
    name: str, *, kind: str, category: str, pattern: str, score: float = 0.8, context: Sequence[str] = (), whole_words: bool = True
) -> Rule:
    """A customer's recognizer. Its pattern is RE2's alone: linear time, whatever it is. Raises BadProfile, which names it."""
    if len(pattern) > MAX_PATTERN:
        raise BadProfile(f"The pattern of the recognizer {name!r} has {len(pattern)} characters; {MAX_PATTERN} are allowed.")
    if not HAS_RE2:
        raise BadProfile(f"The recognizer {name!r} needs RE2, whose wheel is not installed here: pip install google-re2.")
    pattern = _ascii(pattern)
    try:
        compiled = Re2().compile(pattern)
    except BadPattern as error:
        raise BadProfile(f"The recognizer {name!r} has a pattern that RE2 refuses. {error}") from error
    if compiled(b"", 0, 0) is not None:
        raise BadProfile(f"The pattern of the recognizer {name!r} matches the empty text: it would be found everywhere.")
    return Rule(
        f"custom.{name}",
        kind,
        category,
        pattern,
        score,
        matches=(),
        edges=WORD if whole_words else b"",
        needs=Words(*context) if context else None,
    )


def deny_rule(name: str, entries: Sequence[str], *, category: str = "denied", kind: str = "DENIED") -> Rule:
    """A rule for words and phrases that are always found, in any case. Raises BadProfile."""
    _bounded(name, entries)
    body = "|".join(re.escape(entry.strip()) for entry in sorted(entries, key=len, reverse=True))
    return Rule(f"custom.{name}", kind, category, _ascii(f"(?i:{body})"), 1.0, matches=(), edges=WORD)


def allow_list(entries: Sequence[str]) -> frozenset[str]:
    """What is never a finding: exact text in any case. Raises BadProfile."""
    _bounded("allow", entries)
    return frozenset(entry.strip().casefold() for entry in entries)


def regions(codes: Sequence[str]) -> tuple[str, ...]:
    """Regions for telephone numbers. Raises BadProfile."""
    for code in codes:
        if not phone_plans.known(code):
            raise BadProfile(
                f"{code!r} is no region that telephone numbers are known of: use ISO 3166-1 codes, such as GB, US, DE."
            )
    return tuple(codes)


def _bounded(name: str, entries: Sequence[str]) -> None:
    if len(entries) > MAX_LIST:
        raise BadProfile(f"The list {name!r} has {len(entries)} entries; {MAX_LIST} are allowed.")
    for entry in entries:
        if not entry.strip() or len(entry) > MAX_ENTRY:
            raise BadProfile(f"The list {name!r} has an entry that is empty or longer than {MAX_ENTRY} characters.")


def _ascii(pattern: str) -> str:
    return (
        pattern if pattern.isascii() else "".join(c if c.isascii() else "".join(f"\\x{b:02x}" for b in c.encode()) for c in pattern)
    )

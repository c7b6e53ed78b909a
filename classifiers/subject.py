"""From what the model read to findings: which of its spans count, as what, and what the text as a whole is about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classifiers.ner.tagger import Reading, Tagged
from classifiers.normalise import Normal
from classifiers.recognizers import contact
from classifiers.verdict import Finding

CATEGORIES = {
    "PERSON": "pii",
    "STREET_ADDRESS": "pii",
    "USERNAME": "pii",
    "PHONE_NUMBER": "pii",
    "MEDICAL_CONDITION": "health_term",
    "ORGANIZATION": "quasi_identifier",
    "LOCATION": "quasi_identifier",
    "NRP": "quasi_identifier",
    "DATE_TIME": "quasi_identifier",
    "AGE": "quasi_identifier",
    "TITLE": "quasi_identifier",
    "PROFESSION": "quasi_identifier",
}
LEAST = {"USERNAME": 0.8, "PHONE_NUMBER": 0.7, "PERSON": 0.55, "STREET_ADDRESS": 0.6}
"""Chances below which a span of the type is not told; others are told from the tagger's own threshold on."""
SURE = 0.98
PUBLIC_BELOW = 0.25
"""A text whose subject is internal with less than this chance speaks of names that are public: of history, of an example."""
PERSONAL = frozenset({"pii", "phi", "government_id", "financial"})
"""Categories of patterns that show the names beside them to be of private people."""
SUBJECT_TYPE = "SENSITIVE_SUBJECT"
"""The type of the finding that is about the whole text."""
SUBJECT = (("subject_internal", 0.5), ("subject_confidential", 0.6), ("subject_restricted", 0.5))
"""Category by subject score, and the chance from which on it counts. None is under
calibration.LEAST_SCORE: rules that look at categories would act on a finding that decides nothing."""
MIN_WORDS = 3
"""Words from which on a text has a subject."""


def findings_of(reading: Reading, normal: Normal, index: int, patterns: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the findings that follow from a reading, in characters of the original text.

    A higher subject score never takes a finding away and never makes one less sure: it adds subjects,
    and turns the names of a public text into names of people. Each window is judged by its own
    subject and patterns, as if it were a text of its own.

    Args:
        normal: The normal form that was read.
        index: The text's place in the request.
        patterns: What the patterns found in this text.
    """
    personal = [(p.start, p.end) for p in patterns if p.category in PERSONAL]
    ill = [(p.start, p.end) for p in patterns if p.type == "MEDICAL_CONDITION"]
    for window in reading.windows:
        seen = normal.span(window.start, window.end)
        private = at_least(window.subject)[0] >= PUBLIC_BELOW or _touches(personal, seen)
        for span in window.spans:
            where = normal.span(span.start, span.end)
            if where[0] >= where[1] or not _counts(span, normal.text):
                continue
            # A pattern that has found the same illness there knows that it is somebody's.
            if span.type == "MEDICAL_CONDITION" and _touches(ill, where):
                continue
            public = span.type == "PERSON" and not private
            category = "quasi_identifier" if public else CATEGORIES[span.type]
            recognizer = f"model.{span.type.lower()}"
            yield Finding(*where, span.type, category, round(span.score, 3), recognizer, index)
    yield from _subjects(reading, normal, index)


def at_least(scores: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return the chances of at least internal, confidential, restricted, each at least the next.

    The model scores the three apart, and they may contradict each other: what is restricted is
    confidential and internal, too.
    """
    internal, confidential, restricted = scores
    return max(internal, confidential, restricted), max(confidential, restricted), restricted


def _subjects(reading: Reading, normal: Normal, index: int) -> Iterator[Finding]:
    """Yield every subject that passes: a tenant's table may hold a lower one for the graver."""
    if normal.text.count(" ") + 1 < MIN_WORDS:
        return
    start, end = normal.span(0, len(normal.text))
    for (category, least), chance in zip(SUBJECT, at_least(reading.subject), strict=True):
        if chance >= least and start < end:
            score = round(chance, 3)
            yield Finding(start, end, SUBJECT_TYPE, category, score, "model.subject", index)


def _touches(spans: Sequence[tuple[int, int]], where: tuple[int, int]) -> bool:
    """Whether one of the spans shares a character with this one."""
    return any(start < where[1] and where[0] < end for start, end in spans)


def _counts(span: Tagged, text: str) -> bool:
    if span.score < LEAST.get(span.type, 0):
        return False
    surface = text[span.start : span.end]
    if span.type == "PHONE_NUMBER":
        return contact.looks_dialled(surface)
    if span.type == "USERNAME":  # a plain word is one only where the model is very sure: @property is none
        return span.score >= SURE or any(c.isdigit() or c in "_.-" for c in surface)
    if span.type in ("PERSON", "ORGANIZATION", "LOCATION"):
        return any(c.isalpha() for c in surface)
    return True

"""From what the model read to findings: which of its spans count, as what, and what the text as a whole is about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classifiers.ner.tagger import Reading, Tagged
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
SUBJECT_TYPE = "SENSITIVE_SUBJECT"
"""The type of the finding that is about the whole text."""
SUBJECT = (("subject_internal", 0.5), ("subject_confidential", 0.6), ("subject_restricted", 0.4))
"""Category by subject score, and the chance from which on it counts."""
MIN_WORDS = 3
"""Words from which on a text has a subject."""


def findings_of(reading: Reading, text: str, index: int, patterns: Sequence[Finding]) -> Iterator[Finding]:
    """The findings that follow from a reading, in characters of the text that was read."""
    marked_public = reading.subject[0] < PUBLIC_BELOW and not any(
        f.category in ("pii", "phi", "government_id", "financial") for f in patterns
    )
    for span in reading.spans:
        if _counts(span, text) and not _known(span, patterns):
            category = CATEGORIES[span.type]
            if marked_public and span.type == "PERSON":
                category = "quasi_identifier"
            yield Finding(span.start, span.end, span.type, category, round(span.score, 3), f"model.{span.type.lower()}", index)
    if text.count(" ") + 1 < MIN_WORDS:
        return
    for (category, least), chance in zip(reversed(SUBJECT), reversed(reading.subject), strict=True):
        if chance >= least:
            yield Finding(0, len(text), SUBJECT_TYPE, category, round(chance, 3), "model.subject", index)
            return


def _known(span: Tagged, patterns: Sequence[Finding]) -> bool:
    """Whether a pattern has found the same illness there: it knows that it is somebody's."""
    return span.type == "MEDICAL_CONDITION" and any(
        p.type == span.type and p.start < span.end and span.start < p.end for p in patterns
    )


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

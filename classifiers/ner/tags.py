"""What the model tags: entity types in BIO form, and the ordinal levels of its prompt-level scores."""

from __future__ import annotations

TYPES = (
    "PERSON", "TITLE", "ORGANIZATION", "LOCATION", "STREET_ADDRESS", "NRP", "DATE_TIME", "AGE", "PROFESSION", "MEDICAL_CONDITION",
    "USERNAME", "PHONE_NUMBER",
)  # fmt: skip
"""Presidio's names where it has one. NRP: nationality, religious or political group. TITLE: Dr, Mrs, …"""

OUTSIDE = 0
COUNT = 1 + 2 * len(TYPES)
"""Tags: 0 is outside, then begin and inside of each type in order."""

SUBJECTS = ("internal", "confidential", "restricted")
"""The prompt-level scores: the probability that the text's subject is at least of this level."""


def begin(type_index: int) -> int:
    """The tag of a span's first token."""
    return 1 + 2 * type_index


def inside(type_index: int) -> int:
    """The tag of its further tokens."""
    return 2 + 2 * type_index

"""Health: numbers that name a patient's record."""

from __future__ import annotations

from classifiers.context import Words
from classifiers.recognizers.rule import WORD, Rule

RULES = (
    Rule(
        "health.record_number", "MEDICAL_RECORD_NUMBER", "phi", r"(?:[A-Z]{1,3}-?)?\d{5,10}", 0.9,
        matches=("MRN 12345678", "mrn: 00482913", "medical record number AB-123456", "patient id 7788990"),
        misses=("order 12345678", "in the year 2024", "the patient waited 30 minutes"),
        edges=WORD + b".",
        needs=Words("mrn", "medical record", "medical record number", "record number", "patient id", "patient number", "patient no",
                    "hospital number", "chart number"),
    ),
)  # fmt: skip

"""An assessment as a client is told of it, at the hub and at a site."""

from __future__ import annotations

from classifiers.verdict import Assessment


def assessment(found: Assessment) -> dict[str, object]:
    """The answer of POST /v1/classify."""
    return {
        "level": found.level.label,
        "categories": found.categories,
        "findings": [
            {
                "text": f.text, "start": f.start, "end": f.end, "type": f.type, "category": f.category,
                "score": f.score, "recognizer": f.recognizer,
            }
            for f in found.findings
        ],
        "subject": [{"text": f.text, "category": f.category, "score": f.score} for f in found.subject],
        "model": found.model,
        "failed": found.failed,
    }  # fmt: skip

"""Coverage-guided fuzzing of the classifier with atheris (PyPI), where it is installed: `python tests/fuzz/fuzz_classifier.py -runs=100000`.

Whatever the bytes: no failure but by budget, no finding outside its text, and what was redacted is restored.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["classifiers"]):
    from classifiers.engine import Classifier
    from classifiers.redaction import Vault

CLASSIFIER = Classifier()


def one(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    texts = [provider.ConsumeUnicode(200) for _ in range(provider.ConsumeIntInRange(1, 3))]
    assessment = CLASSIFIER.assess(texts)
    assert not assessment.failed
    for finding in assessment.findings:
        assert 0 <= finding.start < finding.end <= len(texts[finding.text])
    vault = Vault()
    redacted = vault.redact(texts, assessment.findings)
    assert [vault.restore(text) for text in redacted] == texts


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()

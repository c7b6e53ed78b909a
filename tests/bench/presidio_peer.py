"""Microsoft Presidio beside us: run by the Python of a venv of its own (`make peer`). Reads one JSON object, writes one.

In: {"time": {name: text}, "find": [texts]}. Out: {"start_ms", "rss_mb", "time": {name: µs}, "find": [[[start, end, type], …], …]}.
Without a language model, as none comes from PyPI: its pattern recognizers, with lemmas that are the lower-case words.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()
ROUNDS = 7
PAGE_KIB = 4


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB / 1024


BARE = rss_mb()


def analyzer():
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from spacy.language import Language

    @Language.component("lower_lemmas")
    def lower_lemmas(doc):
        for token in doc:
            token.lemma_ = token.text.lower()
        return doc

    nlp = spacy.blank("en")
    nlp.add_pipe("lower_lemmas")
    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    engine.nlp = {"en": nlp}
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    registry.remove_recognizer("SpacyRecognizer")
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


def main() -> None:
    asked = json.loads(sys.stdin.read())
    engine = analyzer()
    engine.analyze("warm up a@b.com", language="en")
    started = (time.perf_counter() - BEGAN) * 1000
    times = {}
    for name, text in asked["time"].items():
        took = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            engine.analyze(text, language="en")
            took.append((time.perf_counter() - began) * 1e6)
        times[name] = statistics.median(took)
    found = [
        [[r.start, r.end, r.entity_type] for r in engine.analyze(text, language="en", score_threshold=0.35)]
        for text in asked["find"]
    ]
    print(json.dumps({"start_ms": started, "rss_mb": rss_mb() - BARE, "time": times, "find": found}))


if __name__ == "__main__":
    main()

"""Every recognizer by its own examples, with both engines."""

from __future__ import annotations

import pytest

from classifiers import calibration
from classifiers.matching import Matcher, Re2, Stdlib
from classifiers.normalise import normalise
from classifiers.recognizers.catalogue import RULES
from classifiers.recognizers.rule import Rule
from classifiers.scanner import Scanner

SCANNERS = {rule.name: Scanner([rule]) for rule in RULES}
MATCHES = [(rule, text) for rule in RULES for text in rule.matches]
MISSES = [(rule, text) for rule in RULES for text in rule.misses]


def name(value: object) -> str:
    return value.name if isinstance(value, Rule) else str(value)[:40]


@pytest.mark.parametrize(("rule", "text"), MATCHES, ids=name)
def test_a_recognizer_finds(rule: Rule, text: str) -> None:
    spans, _ = SCANNERS[rule.name].scan(normalise(text))
    assert [span.rule.name for span in spans][:1] == [rule.name]


@pytest.mark.parametrize(("rule", "text"), MISSES, ids=name)
def test_a_recognizer_does_not_take(rule: Rule, text: str) -> None:
    spans, _ = SCANNERS[rule.name].scan(normalise(text))
    assert not spans


def test_every_recognizer_has_examples_and_a_level() -> None:
    for rule in RULES:
        assert rule.matches, rule.name
        assert rule.category in calibration.BY_CATEGORY, rule.name
        assert rule.pattern.isascii(), rule.name
    assert len({rule.name for rule in RULES}) == len(RULES)


TEXTS = [text for rule in RULES for text in (*rule.matches, *rule.misses)]


def test_the_standard_library_gives_the_same_findings_as_re2() -> None:
    ours, fallback = Scanner(RULES, Re2()), Scanner(RULES, Stdlib())
    for text in [*TEXTS, "\n".join(TEXTS)]:
        normal = normalise(text)
        assert {(s.rule.name, s.start, s.end) for s in ours.scan(normal)[0]} == {
            (s.rule.name, s.start, s.end) for s in fallback.scan(normal)[0]
        }, text


def test_the_set_says_of_every_pattern_whether_it_occurs() -> None:
    patterns = [rule.pattern for rule in RULES]
    together, engine = Matcher(patterns), Re2()
    compiled = [engine.compile(pattern) for pattern in patterns]
    for text in TEXTS:
        data = normalise(text).text.encode()
        assert sorted(together.hits(data)) == [
            i for i, pattern in enumerate(compiled) if pattern(data, 0, len(data)) is not None
        ], text


def test_a_trigger_occurs_wherever_its_pattern_does() -> None:
    engine = Re2()
    for rule in RULES:
        if rule.trigger:
            trigger, pattern = engine.compile(rule.trigger), engine.compile(rule.pattern)
            for text in TEXTS:
                data = normalise(text).text.encode()
                assert pattern(data, 0, len(data)) is None or trigger(data, 0, len(data)) is not None, (rule.name, text)

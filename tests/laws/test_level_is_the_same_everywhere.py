"""A level does not depend on the machine or the form.

The same texts have the same assessment on a slow machine, under load, and whatever was read before;
as one message or as many; and a subject score that rises never lowers the level. What the model does
not read, because the request is longer than the tenant's budget of words, counts as at least the
tenant's `over_budget` level.

Mutations that turn a test here red:
- a deadline on a clock in `Tagger.read`, or in `Classifier._read_into`;
- a remembered reading that is taken whatever it costs (`known.cost <= limit` left out);
- `subject.findings_of` that yields the highest category alone, or reads the scores each for itself;
- `subject_restricted` that passes under the table's least score;
- what is left of the budget that is given again to the texts behind one that was too long;
- the features of a window's first word that look at the text before the window;
- a window's names that are judged by the subject of the whole text;
- a name's rank between overlapping findings that depends on the subject.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers import calibration, engine, subject
from classifiers.engine import Classifier
from classifiers.ner import features, tagger
from classifiers.ner.tagger import Reading, Tagged, Tagger, Window
from classifiers.normalise import Normal
from classifiers.profile import Profile, custom_rule
from classifiers.verdict import Assessment
from sync.wire.levels import Level

MODEL = Tagger()
SENTENCES = (
    "Nothing of note happened on that day.",
    "Who was Albert Einstein, and why is he famous?",
    "Our customer Anna Meyer wants her money back and will call on Monday.",
    "Write to the insurer of Maria Keller, she was diagnosed with epilepsy.",
    "The margin of the Ghent depot fell again, and nobody there has been told.",
    "Sort a list of numbers in Python without a library.",
    "The staging host was moved to the other cluster last night.",
)
RESTRICTED = SENTENCES[3]
TEXTS = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=60).map(" ".join)
CHANCES = st.floats(0, 1, width=32)
SUBJECTS = st.tuples(CHANCES, CHANCES, CHANCES)
PROSE = "The committee met, listened to the reports of the year and went home again. "


class SlowTagger(Tagger):
    """The model on a machine where each reading takes a minute by every clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._passed = 0.0
        for name in ("perf_counter", "monotonic", "time", "process_time", "thread_time"):
            real = getattr(time, name)
            monkeypatch.setattr(time, name, lambda real=real: real() + self._passed)
        session = self._session

        class Slow:
            def run(inner, inputs: object) -> object:  # noqa: N805 - `self` is the tagger here
                self._passed += 60
                return session.run(inputs)  # type: ignore[arg-type]

        self._session = Slow()  # type: ignore[assignment]


class Says(Tagger):
    """A model whose subject scores are given; and its spans, else they are those of the real one."""

    def __init__(self, said: tuple[float, float, float], *spans: Tagged) -> None:
        self.said, self.spans = said, spans

    def read(self, text: str, limit: int | None = None) -> Reading:
        found = MODEL.read(text, limit)
        windows = tuple(Window(w.start, w.end, self.spans or w.spans, self.said) for w in found.windows)
        return Reading(windows, found.cost, found.complete)


def long_text(sentences: int) -> str:
    return " ".join(itertools.islice(itertools.cycle(SENTENCES), sentences))


LONG = [long_text(60), SENTENCES[1], long_text(5)]


def test_a_slow_machine_gives_the_same_assessment(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Classifier(model=MODEL).assess(LONG, all_spans=True)
    slow = Classifier(model=SlowTagger(monkeypatch)).assess(LONG, all_spans=True)
    assert slow == quick and quick.model == "ran" and quick.read_whole


def test_a_loaded_machine_gives_the_same_assessment() -> None:
    shared, own = Classifier(model=MODEL), Profile()
    quiet = shared.assess(LONG, own, all_spans=True)
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            sum(range(10_000))

    with ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(load) for _ in range(4)]
        found = [pool.submit(shared.assess, LONG, Profile(), all_spans=True) for _ in range(4)]
        assert all(one.result() == quiet for one in found)
        stop.set()
        assert all(one.result() is None for one in busy)


@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=4), st.integers(0, 400))
@settings(max_examples=40, deadline=None)
def test_what_was_read_before_changes_nothing(texts: list[str], before: list[int], budget: int) -> None:
    own = Profile(budget_words=budget)
    fresh, used = Classifier(model=MODEL), Classifier(model=MODEL)
    for index in before:
        used.assess(texts[index : index + 1], own, all_spans=True)
    expected = fresh.assess(texts, own, all_spans=True)
    assert used.assess(texts, own, all_spans=True) == expected
    assert used.assess(texts, own, all_spans=True) == expected


@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(0, 400))
@settings(max_examples=40, deadline=None)
def test_a_request_is_over_budget_by_its_words_alone(texts: list[str], budget: int) -> None:
    words = sum(max(tagger.LEAST_COST, len(features.words(text))) for text in texts)
    found = Classifier(model=MODEL).assess(texts, Profile(budget_words=budget), all_spans=True)
    assert (found.model == "over_budget") == (words > budget) == (not found.read_whole)


@given(st.lists(TEXTS, min_size=1, max_size=3), st.lists(st.integers(0, 600), min_size=2, max_size=2))
@settings(max_examples=40, deadline=None)
def test_a_larger_budget_finds_all_that_a_smaller_one_finds(texts: list[str], budgets: list[int]) -> None:
    less, more = (_found(texts, Profile(budget_words=budget, floor_over_budget=Level.PUBLIC)) for budget in sorted(budgets))
    assert set(less.findings) <= set(more.findings) and less.level <= more.level


def _found(texts: Sequence[str], own: Profile) -> Assessment:
    return Classifier([], model=MODEL).assess(texts, own, all_spans=True)


class Counting(Tagger):
    """The model, and how many words it has read."""

    words = 0

    def _read(self, text: str, part: features.Words) -> Window:
        self.words += len(part)
        return super()._read(text, part)


@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(0, 600))
@settings(max_examples=20, deadline=None)
def test_no_more_words_are_read_than_the_budget_has(texts: list[str], budget: int) -> None:
    model = Counting()
    Classifier([], model=model).assess(texts, Profile(budget_words=budget), all_spans=True)
    assert model.words <= budget


PADDED = {
    "prose before it": lambda: [PROSE * (300_000 // len(PROSE)) + RESTRICTED],
    "prose in a message of its own": lambda: [PROSE * (300_000 // len(PROSE)), RESTRICTED],
    "thousands of short messages before it": lambda: ["Is it?"] * 4_000 + [RESTRICTED],
    "one sign a word": lambda: ["? " * 100_000 + RESTRICTED],
}


@pytest.mark.parametrize("name", PADDED)
def test_padding_is_read_or_counts_as_restricted(name: str) -> None:
    texts = PADDED[name]()
    short = _found(texts, Profile())
    assert (short.level, short.model) == (Level.RESTRICTED, "over_budget")


def test_padding_that_the_budget_allows_is_read_to_its_end() -> None:
    read = _found(PADDED["prose before it"](), Profile(budget_words=1_000_000))
    assert (read.level, read.model) == (Level.RESTRICTED, "ran")
    assert _found([PROSE * (300_000 // len(PROSE))], Profile(budget_words=1_000_000)).level < Level.RESTRICTED


@pytest.mark.parametrize("each", ["prose", "code", "json"])
def test_an_ordinary_long_prompt_is_read_whole(each: str) -> None:
    text = {
        "prose": PROSE * 300,
        "code": "def total(self, rows):\n    return sum(row['n'] for row in rows)\n" * 400,
        "json": '{"id": 17, "at": [1, 2], "ok": true},\n' * 600,
    }[each][:20_000]
    assert len(text) == 20_000
    assert _found([text], Profile()).model == "ran"


@given(st.lists(st.tuples(st.sampled_from(SENTENCES), st.integers(10, 30)), min_size=2, max_size=4))
@settings(max_examples=30, deadline=None)
def test_one_message_and_many_have_the_same_findings_and_level(parts: list[tuple[str, int]]) -> None:
    """The messages are cut where the windows end: a word elsewhere has other words around it."""
    text = " ".join(sentence for sentence, times in parts for _ in range(times))
    windows = MODEL.read(text).windows
    one = _found([text], Profile())
    many = _found([text[w.start : w.end] for w in windows], Profile())
    moved = {(f.start + windows[f.text].start, f.type, f.category, f.score) for f in many.findings}
    assert {(f.start, f.type, f.category, f.score) for f in one.findings} == moved
    assert one.level is many.level


RISING = st.tuples(SUBJECTS, SUBJECTS).map(lambda two: (two[0], tuple(map(max, *two))))
SPANS = st.lists(
    st.builds(Tagged, st.integers(0, 8), st.integers(9, 19), st.sampled_from(sorted(subject.CATEGORIES)), CHANCES), max_size=4
)
LEVELS = st.sampled_from(list(Level))
SUBJECT_TABLES = st.builds(
    calibration.Table,
    st.dictionaries(st.sampled_from([category for category, _ in subject.SUBJECT]), LEVELS),
    least_score=st.floats(0, 1),
)


@given(SPANS, RISING, SUBJECT_TABLES)
def test_a_subject_score_that_rises_never_lowers_the_level(
    spans: list[Tagged],
    scores: tuple[tuple[float, float, float], tuple[float, float, float]],
    table: calibration.Table,
) -> None:
    text = Normal("Our customer Anna Meyer called.")
    low, high = (
        table.level_of(
            subject.findings_of(Reading((Window(0, len(text.text), tuple(spans), said),), 6), text, index=0, patterns=())
        )
        for said in scores
    )
    assert low <= high


@given(st.sampled_from([*SENTENCES, "Anna Meyer, 12 May 1980, anna@bank.test, our margin is 12 %"]), RISING)
@settings(max_examples=60, deadline=None)
def test_nor_does_it_with_the_patterns_beside_it(
    text: str, scores: tuple[tuple[float, float, float], tuple[float, float, float]]
) -> None:
    low, high = (Classifier(model=Says(said)).assess([text], all_spans=True) for said in scores)
    assert low.level <= high.level
    assert [(f.start, f.end, f.type) for f in low.findings] == [(f.start, f.end, f.type) for f in high.findings]


def test_a_name_displaces_no_graver_finding_when_the_subject_rises() -> None:
    rule = custom_rule("x", kind="DEAL", category="business", pattern="Anna Meyer", score=0.8)
    name = Tagged(13, 23, "PERSON", 0.9)
    low, high = (
        Classifier(model=Says(said, name)).assess(["Our customer Anna Meyer called."], Profile(rules=(rule,)), all_spans=True)
        for said in ((0.1, 0.1, 0.1), (0.3, 0.1, 0.1))
    )
    assert low.level <= high.level


ORDINAL = {
    "restricted that does not pass, over confidential that does": ((0.98, 0.9, 0.45), Level.CONFIDENTIAL),
    "restricted that passes by the least": ((0.98, 0.9, 0.5), Level.RESTRICTED),
    "restricted alone": ((0.0, 0.0, 0.9), Level.RESTRICTED),
    "confidential alone": ((0.0, 0.7, 0.0), Level.CONFIDENTIAL),
    "internal by what is known of restricted": ((0.1, 0.1, 0.49), Level.PUBLIC),
    "internal": ((0.6, 0.5, 0.4), Level.INTERNAL),
    "nothing": ((0.4, 0.2, 0.1), Level.PUBLIC),
}


@pytest.mark.parametrize("name", ORDINAL)
def test_the_scores_of_a_subject_are_ordinal(name: str) -> None:
    said, level = ORDINAL[name]
    assessment = Classifier(model=Says(said)).assess(["Outline how we go about it."])
    assert assessment.level is level
    assert {f.category for f in assessment.subject} == {f"subject_{one.label}" for one in Level if Level.PUBLIC < one <= level}


def test_a_subject_that_is_told_is_one_that_counts() -> None:
    assert all(least >= calibration.LEAST_SCORE for _, least in subject.SUBJECT)


def test_no_clock_is_read_in_the_classifier() -> None:
    for module in (engine, tagger, subject, calibration):
        assert not hasattr(module, "time"), module.__name__

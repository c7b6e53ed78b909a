"""The classifier: every recognizer by its own examples, and what holds for all of them."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import calibration, checksums, normalise
from classifiers.context import Words
from classifiers.engine import RULES, Classifier, without_overlaps
from classifiers.matching import BudgetExceeded, Matcher
from classifiers.recognizers.rule import Rule
from classifiers.verdict import FAILED_CLOSED, Finding
from sync.wire.levels import Level

CLASSIFIER = Classifier()
MATCHES = [(rule, text) for rule in RULES for text in rule.matches]
MISSES = [(rule, text) for rule in RULES for text in rule.misses]


@pytest.mark.parametrize(("rule", "text"), MATCHES, ids=lambda value: value.name if isinstance(value, Rule) else value[:40])
def test_a_recognizer_finds(rule: Rule, text: str) -> None:
    findings = Classifier([rule]).assess([text]).findings
    assert [f.recognizer for f in findings] == [rule.name]


@pytest.mark.parametrize(("rule", "text"), MISSES, ids=lambda value: value.name if isinstance(value, Rule) else value[:40])
def test_a_recognizer_does_not_take(rule: Rule, text: str) -> None:
    assert Classifier([rule]).assess([text]).findings == ()


def test_every_recognizer_has_examples_and_a_level() -> None:
    for rule in RULES:
        assert rule.matches, rule.name
        assert rule.category in calibration.BY_CATEGORY, rule.name
    assert len({rule.name for rule in RULES}) == len(RULES)


def luhn_complete(body: str) -> str:
    return next(body + str(d) for d in range(10) if checksums.luhn(body + str(d)))


CARDS = {
    "visa 13": ("4", 13), "visa 16": ("4", 16), "visa 19": ("4", 19), "mastercard 51": ("51", 16), "mastercard 55": ("55", 16),
    "mastercard 2-series low": ("2221", 16), "mastercard 2-series high": ("2720", 16), "amex 34": ("34", 15), "amex 37": ("37", 15),
    "diners 305": ("305", 14), "diners 36": ("36", 14), "discover": ("6011", 16), "discover 65": ("65", 19), "jcb": ("3530", 16),
    "jcb 2131": ("2131", 15), "jcb 1800": ("1800", 15), "unionpay": ("62", 19), "maestro 13": ("5018", 13), "maestro 19": ("6759", 19),
    "mir": ("2200", 16), "troy": ("9792", 16),
}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_a_valid_card_of_every_range_is_restricted(name: str) -> None:
    prefix, length = CARDS[name]
    rng = random.Random(name)
    for _ in range(20):
        number = luhn_complete(prefix + "".join(rng.choice("0123456789") for _ in range(length - len(prefix) - 1)))
        for text in (
            number,
            " ".join(number[i : i + 4] for i in range(0, length, 4)),
            "-".join(number[i : i + 4] for i in range(0, length, 4)),
        ):
            assessment = CLASSIFIER.assess([f"pay with {text} now"])
            assert assessment.level is Level.RESTRICTED, text
            assert "CREDIT_CARD" in assessment.counts(), text


PROMPTS = {
    "What is the capital of France?": Level.PUBLIC,
    "Write a function that sorts 1234567890123456 numbers": Level.PUBLIC,
    "Why is 10.0.0.7 slow?": Level.INTERNAL,
    "Ask anna.meyer@bank.test": Level.INTERNAL,
    "anna.meyer@bank.test, call +49 30 901820": Level.CONFIDENTIAL,
    "born 1984-03-12": Level.CONFIDENTIAL,
    "TLP:AMBER the plan": Level.CONFIDENTIAL,
    "card 4111111111111111": Level.RESTRICTED,
    "MRN 00482913": Level.RESTRICTED,
    "password = hunter2!": Level.RESTRICTED,
    "a@b.com c@d.com e@f.com g@h.com i@j.com": Level.CONFIDENTIAL,
}


@pytest.mark.parametrize("text", PROMPTS)
def test_a_prompt_has_the_level_of_the_rubric(text: str) -> None:
    assert CLASSIFIER.assess([text]).level is PROMPTS[text]


EVASIONS = {
    "full-width digits": "card ４１１１ １１１１ １１１１ １１１１",
    "zero-width space": "card 4111\u200b1111\u200b1111\u200b1111",
    "no-break space": "card 4111\u00a01111\u00a01111\u00a01111",
    "soft hyphen": "card 4111\u00ad1111\u00ad1111\u00ad1111",
    "en dash": "card 4111\u20131111\u20131111\u20131111",
    "arabic digits": "card ٤١١١١١١١١١١١١١١١",
    "tag characters": "card 4111\U000e00201111\U000e00201111\U000e00201111",
}


@pytest.mark.parametrize("name", EVASIONS)
def test_a_hidden_card_is_found_where_it_stands(name: str) -> None:
    text = EVASIONS[name]
    (finding,) = CLASSIFIER.assess([text]).findings
    assert (finding.type, finding.start, finding.end) == ("CREDIT_CARD", 5, len(text))


def test_offsets_count_characters_also_behind_others() -> None:
    text = "Größe 😀 an a@b.com"
    (finding,) = CLASSIFIER.assess([text]).findings
    assert text[finding.start : finding.end] == "a@b.com"


def test_the_whole_conversation_is_one_request() -> None:
    assessment = CLASSIFIER.assess(["hello", "my card is 4111111111111111", "thanks"])
    assert assessment.level is Level.RESTRICTED
    assert assessment.findings[0].text == 1


def test_an_error_of_the_scanner_makes_the_level_restricted() -> None:
    def broken(_: bytes, __: int, ___: int) -> int | None:
        raise RuntimeError("broken")

    rule = Rule("x.y", "X", "pii", "a", 1.0, matches=("a",), check=broken)
    assert Classifier([rule]).assess(["a"]) == FAILED_CLOSED
    assert CLASSIFIER.assess(["1 " * 60_000]).level is Level.RESTRICTED


def test_a_text_with_too_many_candidates_is_not_scanned_to_the_end() -> None:
    with pytest.raises(BudgetExceeded):
        list(Matcher(["a"]).spans(b"a" * 30_000, 0, lambda *_: None))


@given(st.lists(st.text(max_size=120), max_size=4))
def test_no_text_makes_it_raise_or_point_outside(texts: list[str]) -> None:
    assessment = CLASSIFIER.assess(texts)
    for finding in assessment.findings:
        assert 0 <= finding.start < finding.end <= len(texts[finding.text])


@given(st.text(alphabet="4１1 -@a.\u200bé😀\ud800+0", max_size=80))
def test_texts_of_what_it_looks_for_are_bounded_too(text: str) -> None:
    for finding in CLASSIFIER.assess([text]).findings:
        assert 0 <= finding.start < finding.end <= len(text)


@given(st.text(max_size=100))
def test_every_character_of_a_normal_form_knows_where_it_came_from(text: str) -> None:
    normal = normalise.normalise(text)
    if normal.offsets is not None:
        assert len(normal.offsets) == len(normal.text)
        assert normal.offsets == sorted(normal.offsets)
        assert all(0 <= at < len(text) for at in normal.offsets)
    assert normal.span(0, 0) == (0, 0) or normal.offsets


FINDINGS = st.builds(
    Finding, st.integers(0, 30), st.integers(31, 60), st.sampled_from(["EMAIL_ADDRESS", "PHONE_NUMBER", "X"]),
    st.sampled_from([*calibration.BY_CATEGORY, "unknown"]), st.floats(0, 1), st.just("r"),
)  # fmt: skip


@given(st.lists(FINDINGS, max_size=6), FINDINGS)
def test_one_finding_more_never_lowers_the_level(findings: list[Finding], more: Finding) -> None:
    assert calibration.level_of([*findings, more]) >= calibration.level_of(findings)


def test_a_category_that_the_table_does_not_know_counts_as_restricted() -> None:
    assert calibration.level_of([Finding(0, 1, "X", "unheard_of", 1, "r")]) is Level.RESTRICTED


@given(
    st.lists(
        st.builds(Finding, st.integers(0, 9), st.integers(10, 19), st.just("X"), st.just("pii"), st.floats(0, 1), st.just("r")),
        max_size=6,
    )
)
def test_no_two_findings_overlap(found: list[Finding]) -> None:
    kept = without_overlaps(found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(kept))
    assert bool(kept) == bool(found)


def test_context_is_by_whole_words() -> None:
    words = Words("tel", "account number")
    assert words.near(b"tel 1", 4, 5)
    assert words.near(b"Account  Number: 1", 17, 18)
    assert words.near(b"1 is my tel", 0, 1)
    assert not words.near(b"hotel 1", 6, 7)


def test_checksums_know_their_numbers() -> None:
    assert checksums.iban("GB82WEST12345698765432") and not checksums.iban("GB82WEST12345698765433")
    assert checksums.iban_length("ZZ") is None
    assert checksums.us_ssn("536228726") and not checksums.us_ssn("078051120")
    assert not checksums.card("0" * 16)

"""The classifier as a whole: what holds for all of its recognizers together, with hostile and broken input too."""

from __future__ import annotations

import base64
import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import calibration, hidden, profile
from classifiers.checksums import finance
from classifiers.checksums.common import luhn
from classifiers.context import Lexicon, Words
from classifiers.engine import Classifier, load
from classifiers.matching import BadPattern, BudgetExceeded, Matcher, Re2
from classifiers.normalise import normalise
from classifiers.profile import Profile
from classifiers.recognizers.catalogue import RULES
from classifiers.recognizers.rule import Rule
from classifiers.verdict import FAILED_CLOSED, Finding, without_overlaps
from sync.wire.levels import Level

CLASSIFIER = Classifier()
WITH_MODEL = load()


def luhn_complete(body: str) -> str:
    return next(body + str(d) for d in range(10) if luhn(body + str(d)))


CARDS = {
    "visa 13": ("4", 13), "visa 16": ("4", 16), "visa 19": ("4", 19), "mastercard 51": ("51", 16), "mastercard 55": ("55", 16),
    "mastercard 2-series low": ("2221", 16), "mastercard 2-series high": ("2720", 16), "amex 34": ("34", 15), "amex 37": ("37", 15),
    "diners 305": ("305", 14), "diners 36": ("36", 14), "discover": ("6011", 16), "discover 65": ("65", 19), "jcb": ("3530", 16),
    "jcb 2131": ("2131", 15), "jcb 1800": ("1800", 15), "unionpay": ("62", 19), "maestro 12": ("5018", 12), "maestro 13": ("5018", 13), "maestro 19": ("6759", 19),
    "mir": ("2200", 16), "troy": ("9792", 16),
}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_a_valid_card_of_every_range_is_restricted(name: str) -> None:
    prefix, length = CARDS[name]
    rng = random.Random(name)
    for _ in range(20):
        number = luhn_complete(prefix + "".join(rng.choice("0123456789") for _ in range(length - len(prefix) - 1)))
        for text in (number, *(glue.join(number[i : i + 4] for i in range(0, length, 4)) for glue in (" ", "-", "."))):
            assessment = CLASSIFIER.assess([f"pay with card {text} now"])
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
    "anna@bank.test has diabetes, says the patient file": Level.RESTRICTED,
}


@pytest.mark.parametrize("text", PROMPTS)
def test_a_prompt_has_the_level_of_the_rubric(text: str) -> None:
    assert CLASSIFIER.assess([text]).level is PROMPTS[text]


def test_offsets_count_characters_also_behind_others() -> None:
    text = "Größe 😀 an a@b.com"
    (finding,) = CLASSIFIER.assess([text]).findings
    assert text[finding.start : finding.end] == "a@b.com"


def test_the_whole_conversation_is_one_request() -> None:
    assessment = CLASSIFIER.assess(["hello", "my card is 4111111111111111", "thanks"])
    assert assessment.level is Level.RESTRICTED
    assert assessment.findings[0].text == 1


def test_a_number_split_over_messages_is_found_in_each_of_them() -> None:
    texts = ["my card is 4111 1111", "ok, go on", "1111", "1111, please"]
    findings = [f for f in CLASSIFIER.assess(texts).findings if f.type == "CREDIT_CARD"]
    assert [(f.text, texts[f.text][f.start : f.end]) for f in findings] == [(0, "4111 1111"), (2, "1111"), (3, "1111")]


def test_an_error_of_the_scanner_makes_the_level_restricted_never_public() -> None:
    def broken(_: bytes, __: int, ___: int) -> int | None:
        raise RuntimeError("broken")

    rule = Rule("x.y", "X", "pii", "a", 1.0, matches=("a",), check=broken)
    assert Classifier([rule]).assess(["a"]) == FAILED_CLOSED
    assert CLASSIFIER.assess([1]) == FAILED_CLOSED  # type: ignore[list-item]


def test_no_text_is_looked_at_in_more_than_max_candidates_places() -> None:
    with pytest.raises(BudgetExceeded):
        Matcher(["a"]).spans(b"a" * 30_000, 0, lambda *_: None)


def test_a_pattern_that_re2_refuses_is_an_error_that_names_it() -> None:
    with pytest.raises(BadPattern, match=r"\(\?=x\)"):
        Re2().compile("(?=x)")
    with pytest.raises(BadPattern, match=r"\(\?=x\)"):
        Re2().which(["a", "(?=x)"])


@given(st.lists(st.text(max_size=120), max_size=4))
def test_findings_point_into_the_original_text_whatever_it_is(texts: list[str]) -> None:
    assessment = CLASSIFIER.assess(texts)
    assert not assessment.failed
    for finding in assessment.findings:
        assert 0 <= finding.start < finding.end <= len(texts[finding.text])


ALPHABET = "4１1 -@a.\u200bé😀\ud800+0%2E&#65;\\xAF=\u202e\n/:"


@given(st.lists(st.text(alphabet=ALPHABET, max_size=80), max_size=3))
def test_texts_of_what_it_looks_for_are_bounded_too(texts: list[str]) -> None:
    assessment = WITH_MODEL.assess(texts)
    assert not assessment.failed
    for finding in assessment.findings:
        assert 0 <= finding.start < finding.end <= len(texts[finding.text])


def nested(text: str, depth: int) -> str:
    """A text in so many layers of base64."""
    for _ in range(depth):
        text = base64.b64encode(text.encode()).decode()
    return text


HOSTILE = {
    "empty": "",
    "lone surrogates": "\ud800 \udfff" * 500,
    "a hundred thousand zero-width characters": "4" + "\u200b" * 100_000 + "111 1111 1111 1111",
    "ten megabytes of words": "lorem ipsum " * 850_000,
    "ten megabytes of digits": "1234567890" * 1_000_000,
    "nested base64": nested("4111 1111 1111 1111", 12),
    "percent signs": "%25" * 50_000 + "41",
    "ampersands": "&amp;" * 50_000,
    "one long word": "a" * 1_000_000,
    "ats": "@" * 200_000,
    "dots and letters": "a." * 200_000,
    "colons": "a:" * 200_000,
    "brackets": "[at]" * 50_000,
    "spaced letters": "a b " * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_has_a_bounded_answer(name: str) -> None:
    text = HOSTILE[name]
    assessment = CLASSIFIER.assess([text])
    for finding in assessment.findings:
        assert 0 <= finding.start < finding.end <= len(text)


def test_a_card_behind_a_hundred_thousand_zero_width_characters_is_found_whole() -> None:
    text = HOSTILE["a hundred thousand zero-width characters"]
    assert [(f.start, f.end) for f in CLASSIFIER.assess([text]).findings if f.type == "CREDIT_CARD"] == [(0, len(text))]


@given(st.text(max_size=100))
def test_a_span_of_the_normal_form_maps_to_a_span_inside_the_original(text: str) -> None:
    normal = normalise(text)
    last = 0
    for at in range(len(normal.text)):
        start, end = normal.span(at, at + 1)
        assert 0 <= start <= end <= len(text)
        assert start >= last
        last = start


@given(st.text(alphabet=st.characters(max_codepoint=127, exclude_characters="%&\\"), max_size=60))
def test_ascii_without_escapes_is_left_as_it_is(text: str) -> None:
    assert normalise(text).text == text
    assert normalise(text).layers == ()


def test_escapes_are_undone_where_they_stand() -> None:
    for text in (
        "mail anna%40bank.com now",
        "mail anna&#64;bank.com now",
        "mail anna\\u0040bank.com now",
        "mail anna%2540bank.com now",
        "mail anna&commat;bank.com now",
    ):
        normal = normalise(text)
        assert normal.text == "mail anna@bank.com now"
        assert normal.span(5, 18) == (5, len(text) - 4)


FINDINGS = st.builds(
    Finding, st.integers(0, 30), st.integers(31, 60), st.sampled_from(["EMAIL_ADDRESS", "PHONE_NUMBER", "PERSON", "X"]),
    st.sampled_from([*calibration.BY_CATEGORY, "unknown"]), st.floats(0, 1), st.just("r"),
)  # fmt: skip
LEVELS = st.sampled_from(list(Level))
TABLES = st.builds(
    calibration.Table, st.dictionaries(st.sampled_from([*calibration.BY_CATEGORY]), LEVELS), st.dictionaries(st.sampled_from(["PERSON", "X"]), LEVELS),
    st.integers(2, 4), st.integers(2, 6), st.floats(0, 1),
)  # fmt: skip


@given(st.lists(FINDINGS, max_size=6), FINDINGS, TABLES)
def test_one_finding_more_never_lowers_the_level(findings: list[Finding], more: Finding, table: calibration.Table) -> None:
    assert table.level_of([*findings, more]) >= table.level_of(findings)


@given(st.lists(FINDINGS, max_size=6), LEVELS, TABLES)
def test_a_declared_floor_only_raises(findings: list[Finding], floor: Level, table: calibration.Table) -> None:
    assert table.level_of(findings, floor) == max(floor, table.level_of(findings))


def test_a_category_that_the_table_does_not_know_counts_as_restricted() -> None:
    assert calibration.DEFAULT.level_of([Finding(0, 1, "X", "unheard_of", 1, "r")]) is Level.RESTRICTED


@given(
    st.lists(
        st.builds(Finding, st.integers(0, 9), st.integers(10, 19), st.just("X"), st.just("pii"), st.floats(0, 1), st.just("r")),
        max_size=6,
    )
)
def test_no_two_findings_of_one_text_overlap(found: list[Finding]) -> None:
    kept = without_overlaps(found, calibration.rank)
    assert all(a.end <= b.start for a, b in itertools.pairwise(kept))
    assert bool(kept) == bool(found)


def test_context_is_by_whole_words() -> None:
    words = Words("tel", "account number")
    lexicon = Lexicon([words])

    def near(text: bytes, start: int, end: int) -> bool:
        return lexicon.find(text.lower()).near(words, 0, start, end)

    assert near(b"tel 1", 4, 5)
    assert near(b"Account_Number: 1", 16, 17)
    assert near(b"1 is my tel", 0, 1)
    assert not near(b"hotel 1", 6, 7)
    assert not near(b"tel" + b" " * 100 + b"1", 103, 104)


def test_numbers_of_ethereum_and_iban_are_known() -> None:
    assert finance.iban("GB82WEST12345698765432") and not finance.iban("GB82WEST12345698765433")
    assert finance.iban_length("ZZ") is None
    assert finance.keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_encodings_are_followed_so_deep_and_no_deeper() -> None:
    text = "card 4111 1111 1111 1111 of the customer"
    for depth in range(1, hidden.MAX_DEPTH + 2):
        assert ("CREDIT_CARD" in CLASSIFIER.assess([nested(text, depth)]).counts()) == (depth <= hidden.MAX_DEPTH)


def test_the_model_is_not_asked_where_it_cannot_change_the_level() -> None:
    assert WITH_MODEL.assess(["card 4111 1111 1111 1111"]).model == "not_needed"
    assert WITH_MODEL.assess(["card 4111 1111 1111 1111"], all_spans=True).model == "ran"
    assert WITH_MODEL.assess(["mail a@b.com"], Profile(highest=Level.INTERNAL)).model == "not_needed"
    assert WITH_MODEL.assess(["hello there"]).model == "ran"
    assert WITH_MODEL.assess(["hello there"], Profile(use_model=False)).model == "absent"


@pytest.mark.parametrize("floor", Level)
def test_a_request_that_is_longer_than_the_models_budget_is_at_least_of_the_tenants_floor(floor: Level) -> None:
    assessment = WITH_MODEL.assess(["hello there"], Profile(budget_words=1, floor_over_budget=floor))
    assert (assessment.level, assessment.model, assessment.read_whole) == (floor, "over_budget", False)
    assert WITH_MODEL.assess(["hello there"], Profile(budget_words=1)).level is Level.RESTRICTED


def test_a_tenants_own_recognizers_lists_and_table_count() -> None:
    own = Profile(
        rules=(
            profile.custom_rule("badge", kind="BADGE", category="pii", pattern=r"B-\d{4}", context=["badge"]),
            profile.deny_rule("codenames", ["Projekt Blaufuß", "Nightfall"], category="business"),
        ),
        allow=profile.allow_list(["Press@Bank.test"]),
        table=calibration.Table(types={"IP_ADDRESS": Level.CONFIDENTIAL}),
        disabled=frozenset({"MAC_ADDRESS"}),
    )
    assert CLASSIFIER.assess(["badge B-1234"], own).counts() == {"BADGE": 1}
    assert CLASSIFIER.assess(["B-1234"], own).counts() == {}
    assert CLASSIFIER.assess(["about projekt BLAUFUß and nightfall"], own).level is Level.CONFIDENTIAL
    assert CLASSIFIER.assess(["write to press@bank.test"], own).level is Level.PUBLIC
    assert CLASSIFIER.assess(["10.1.2.3"], own).level is Level.CONFIDENTIAL
    assert CLASSIFIER.assess(["b9:b5:e6:b3:fb:ac"], own).findings == ()


BAD = {
    "look-ahead": lambda: profile.custom_rule("x", kind="X", category="pii", pattern="(?=a)"),
    "back-reference": lambda: profile.custom_rule("x", kind="X", category="pii", pattern=r"(a)\1"),
    "unbalanced": lambda: profile.custom_rule("x", kind="X", category="pii", pattern="(a"),
    "empty match": lambda: profile.custom_rule("x", kind="X", category="pii", pattern="a*"),
    "too long": lambda: profile.custom_rule("x", kind="X", category="pii", pattern="a" * 2000),
    "empty entry": lambda: profile.deny_rule("x", ["a", " "]),
    "too many entries": lambda: profile.allow_list(["a"] * 20_000),
    "no region": lambda: profile.regions(["XX"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_tenants_mistake_is_told(name: str) -> None:
    with pytest.raises(profile.BadProfile):
        BAD[name]()


def test_a_tenants_pattern_cannot_slow_the_scanner_beyond_its_budget() -> None:
    own = Profile(rules=(profile.custom_rule("evil", kind="X", category="pii", pattern=r"(?:a?){50}a{50}b", whole_words=False),))
    assert not CLASSIFIER.assess(["a" * 100_000], own).failed


def test_every_rule_compiles() -> None:
    Matcher([rule.pattern for rule in RULES]).compile_all()


def test_a_long_text_is_read_in_windows_that_end_with_sentences() -> None:
    text = "Nothing of note happened on that day. " * 120 + "Then Anna Meyer of 12 Main Street, Springfield called."
    assessment = WITH_MODEL.assess([text], all_spans=True)
    found = {(text[f.start : f.end], f.type) for f in assessment.findings}
    assert ("Anna Meyer", "PERSON") in found
    cut = WITH_MODEL.assess([text], Profile(budget_words=600), all_spans=True)
    assert (cut.level, cut.model) == (Level.RESTRICTED, "over_budget")
    assert "Anna Meyer" not in {text[f.start : f.end] for f in cut.findings}


def test_a_model_that_is_not_there_leaves_the_patterns(tmp_path: Path) -> None:
    classifier = load(tmp_path / "none.onnx")
    assert classifier.assess(["card 4111111111111111"]).model == "absent"


def test_the_names_of_history_are_public_and_a_customers_are_not() -> None:
    assert WITH_MODEL.assess(["Who was Albert Einstein?"]).level is Level.PUBLIC
    assert (
        WITH_MODEL.assess(["Our customer Albert Steiner wants his money back, call him on +49 30 901820"]).level
        >= Level.CONFIDENTIAL
    )


def test_a_named_person_with_an_illness_is_restricted() -> None:
    assert WITH_MODEL.assess(["Write to the insurer of Maria Keller, she was diagnosed with epilepsy."]).level is Level.RESTRICTED


def test_equal_profiles_share_what_was_compiled() -> None:
    def made() -> Profile:
        return Profile(rules=(profile.custom_rule("x", kind="BADGE", category="pii", pattern=r"B-\d{4}", context=["badge"]),))

    classifier = Classifier()
    first, second = made(), made()
    assert classifier._scanner(first) is classifier._scanner(second) is classifier._scanner(first)
    assert classifier._scanner(first) is not classifier._scanner(profile.DEFAULT)


def test_what_was_read_for_one_tenant_is_not_remembered_for_another() -> None:
    classifier = load()
    one, other = Profile(), Profile(budget_words=0)
    assert classifier.assess(["hello Anna Meyer"], one).model == "ran"
    assert classifier.assess(["hello Anna Meyer"], other).model == "over_budget"
    assert classifier.assess(["hello Anna Meyer"], one) == classifier.assess(["hello Anna Meyer"], one)
    assert {owner for owner, _ in classifier._readings} == {id(one)}


def test_readings_are_remembered_in_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifiers.engine.MAX_READINGS", 3)
    classifier, settings = load(), Profile()
    for n in range(10):
        classifier.assess([f"text number {n}"], settings)
    assert len(classifier._readings) <= 3


def test_a_text_is_quick_where_the_model_need_not_read_it() -> None:
    classifier, settings = load(), Profile()
    assert not classifier.is_quick(["hello there Anna"], settings)
    classifier.assess(["hello there Anna"], settings)
    assert classifier.is_quick(["hello there Anna"], settings)
    assert not classifier.is_quick(["hello there Anna"] * 2_000, settings), "over budget: some of it is read again"
    assert not classifier.is_quick(["hello there Anna"], Profile())
    assert classifier.is_quick(["anything"], Profile(use_model=False))
    assert CLASSIFIER.is_quick(["anything"], settings)


CASES = ["I was diagnosed with OCD last year", "patient with COPD on oxygen", "my mother has breast cancer"]


@pytest.mark.parametrize("text", CASES)
def test_an_illness_of_somebody_is_confidential_also_where_the_model_sees_it(text: str) -> None:
    assert WITH_MODEL.assess([text]).level >= Level.CONFIDENTIAL


GENERAL = [
    "What are the symptoms of diabetes?",
    "How is hypertension diagnosed?",
    "What is the usual dose of metformin?",
    "The history of asthma treatment",
]


@pytest.mark.parametrize("text", GENERAL)
def test_a_question_about_an_illness_in_general_is_public(text: str) -> None:
    assert WITH_MODEL.assess([text]).level is Level.PUBLIC


PADDED = {
    "many encoded tokens": " ".join(nested(f"harmless words {n}", 1) for n in range(hidden.MAX_TOKENS + 50)),
    "one long encoded token": nested("harmless words and more of them. " * 3_000, 1),
    "many spaced words": ". ".join("h a r m l e s s w o r d" for _ in range(hidden.MAX_TOKENS + 50)),
}


@pytest.mark.parametrize("name", PADDED)
def test_a_text_that_hides_more_than_will_be_looked_into_is_restricted(name: str) -> None:
    assert CLASSIFIER.assess([PADDED[name]]).level is Level.RESTRICTED


def test_a_message_that_ends_one_number_and_begins_another_is_read_at_both_ends() -> None:
    texts = [
        "card 4111 1111",
        "1111 1111 was the first. " + "And now some words about the weather. " * 6 + "The other card is 5555 5555",
        "5555 4444 thanks",
    ]
    found = [f for f in CLASSIFIER.assess(texts).findings if f.type == "CREDIT_CARD"]
    assert {(f.text, texts[f.text][f.start : f.end]) for f in found} == {
        (0, "4111 1111"),
        (1, "1111 1111"),
        (1, "5555 5555"),
        (2, "5555 4444"),
    }

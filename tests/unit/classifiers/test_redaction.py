"""Redaction: round trips over any chunking, and what is never undone."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import surrogates
from classifiers.checksums import finance, identity
from classifiers.engine import Classifier
from classifiers.redaction import MAX_SURROGATES, Mode, Vault
from classifiers.verdict import Finding

CLASSIFIER = Classifier()


def found(text: str, *values: tuple[str, str], index: int = 0) -> list[Finding]:
    findings = []
    for kind, value in values:
        at = text.index(value)
        findings.append(Finding(at, at + len(value), kind, "pii", 1.0, "test", index))
    return findings


WORDS = st.sampled_from(
    ["Anna", "Bob", "a@b.com", "<", "<PERSON_1>", "<PERSON_", "person", " ", "x", "ß", "İ", "1>", "\n", "_1", ">"]
)
CUTS = st.lists(st.floats(0, 1), max_size=8)
PIECES = st.lists(WORDS, min_size=1, max_size=14)


@given(PIECES, st.lists(st.integers(0, 13), max_size=4, unique=True), CUTS, st.sampled_from([Mode.PSEUDONYM, Mode.SURROGATE]))
def test_what_was_redacted_and_restored_is_the_original_over_any_chunking(
    words: list[str], marked: list[int], cut_at: list[float], mode: Mode
) -> None:
    findings, at = [], 0
    for i, word in enumerate(words):
        if i in marked:
            findings.append(Finding(at, at + len(word), "PERSON", "pii", 1.0, "t"))
        at += len(word)
    text = "".join(words)
    vault = Vault(mode)
    (redacted,) = vault.redact([text], findings)
    cuts = sorted(int(part * len(redacted)) for part in cut_at)
    restorer = vault.restorer()
    out = "".join(restorer.feed(redacted[a:b]) for a, b in zip([0, *cuts], [*cuts, len(redacted)], strict=True)) + restorer.end()
    assert out == text == vault.restore(redacted)


@given(st.lists(st.sampled_from(["<PERSON_1>", "<person_2>", "<Person_1>", "<PERS", "plain ", ">", "<"]), max_size=10), CUTS)
def test_chunks_give_what_the_whole_gives_whatever_the_case(parts: list[str], cut_at: list[float]) -> None:
    text = "Anna met Bob"
    vault = Vault()
    vault.redact([text], found(text, ("PERSON", "Anna"), ("PERSON", "Bob")))
    answer = "".join(parts)
    cuts = sorted(int(part * len(answer)) for part in cut_at)
    restorer = vault.restorer()
    chunked = "".join(restorer.feed(answer[a:b]) for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)) + restorer.end()
    assert chunked == vault.restore(answer)
    assert "<person_1>" not in chunked.lower()


def test_the_same_value_has_the_same_name_within_a_conversation() -> None:
    vault = Vault()
    first, second = "Anna called", "Ask Anna or Bob"
    assert vault.redact(
        [first, second], [*found(first, ("PERSON", "Anna")), *found(second, ("PERSON", "Anna"), ("PERSON", "Bob"), index=1)]
    ) == [
        "<PERSON_1> called",
        "Ask <PERSON_1> or <PERSON_2>",
    ]


def test_a_placeholder_never_stands_in_the_original_texts() -> None:
    text = "<PERSON_1> is what Anna wrote"
    vault = Vault()
    (redacted,) = vault.redact([text], found(text, ("PERSON", "Anna")))
    assert redacted == "<PERSON_1> is what <PERSON_2> wrote"
    assert vault.restore(redacted) == text


@pytest.mark.parametrize(("mode", "expected"), [(Mode.MASK, "I am ****"), (Mode.DROP, "I am ")])
def test_masks_and_dropping_cannot_be_undone(mode: Mode, expected: str) -> None:
    vault = Vault(mode)
    (redacted,) = vault.redact(["I am Anna"], found("I am Anna", ("PERSON", "Anna")))
    assert redacted == expected == vault.restore(redacted)


def test_hashes_are_keyed_and_the_same_for_the_same_value() -> None:
    text = "I am Anna"
    one, same, other = (
        Vault(Mode.HASH, key=key).redact([text], found(text, ("PERSON", "Anna"))) for key in (b"1" * 32, b"1" * 32, b"2" * 32)
    )
    assert one == same != other


def test_a_vault_does_not_leave_its_process() -> None:
    vault = Vault()
    vault.redact(["I am Anna"], found("I am Anna", ("PERSON", "Anna")))
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(vault)
    assert "Anna" not in repr(vault)


def test_what_is_found_is_what_is_taken_out() -> None:
    text = "mail anna@bank.test, card 4111 1111 1111 1111, on 2024-03-01"
    (redacted,) = Vault().redact([text], CLASSIFIER.assess([text]).findings)
    assert redacted == "mail <EMAIL_ADDRESS_1>, card <CREDIT_CARD_1>, on 2024-03-01"


SURROGATES = {
    "CREDIT_CARD": ("4111 1111 1111 1111", lambda v: finance.card(v.replace(" ", "")) and v.startswith("4111 ")),
    "IBAN_CODE": ("DE89 3704 0044 0532 0130 00", lambda v: finance.iban(v.replace(" ", "")) and v.startswith("DE")),
    "US_SSN": ("536-22-8726", lambda v: identity.us_ssn(v.replace("-", "")) and v[3] == "-"),
    "BR_CPF": ("111.444.777-35", lambda v: identity.br_cpf("".join(c for c in v if c.isdigit()))),
    "PHONE_NUMBER": ("+49 30 901820", lambda v: v.startswith("+49 ") and len(v) == 13),
    "PERSON": ("Anna Meyer", lambda v: len(v.split()) == 2),
    "EMAIL_ADDRESS": ("anna@bank.test", lambda v: v.endswith("@example.com")),
    "STREET_ADDRESS": ("1 High Street", lambda v: v.endswith("Street")),
}


@pytest.mark.parametrize("kind", SURROGATES)
def test_a_surrogate_keeps_its_form_and_its_check(kind: str) -> None:
    value, holds = SURROGATES[kind]
    made = [surrogates.of(kind, value) for _ in range(20)]
    assert sum(holds(v) for v in made) >= 18
    assert any(v != value for v in made)


PAIRS = st.lists(
    st.tuples(
        st.sampled_from(["PERSON", "EMAIL_ADDRESS", "US_SSN", "PIN", "Pin", "PIN_1", "<odd> type"]),
        st.sampled_from(["Anna", "Bob Meyer", "a@b.com", "536-22-8726", "1234", "12345678", "x<y>z", "12", "A-9", "0000", "77777"]),
    ),
    min_size=1,
    max_size=10,
)
AROUND = st.lists(
    st.sampled_from(["", " ", "1234", "<PIN_1>", "<pin_1_1>", "7", "kim", "<PERSON_2>", "Alex"]), min_size=11, max_size=11
)


@given(PAIRS, AROUND, st.sampled_from([Mode.PSEUDONYM, Mode.SURROGATE]))
def test_a_name_stands_in_no_text_and_is_part_of_no_other(pairs: list[tuple[str, str]], around: list[str], mode: Mode) -> None:
    text, findings = around[0], []
    for (kind, value), after in zip(pairs, around[1:], strict=False):
        findings.append(Finding(len(text), len(text) + len(value), kind, "pii", 1.0, "t"))
        text += value + after
    vault = Vault(mode)
    (redacted,) = vault.redact([text], findings)
    names = [name.lower() for name in vault._names.values()]
    assert len(set(names)) == len(names) == len(set(pairs))
    assert not any(name in text.lower() for name in names)
    assert not any(one in other for one in names for other in names if one is not other)
    assert vault.restore(redacted) == text


def _listed(values: list[str], before: str = "") -> tuple[str, list[Finding]]:
    text, findings = before, []
    for value in values:
        findings.append(Finding(len(text), len(text) + len(value), "PIN", "pii", 1.0, "t"))
        text += value + " "
    return text, findings


def test_a_surrogate_that_stands_in_a_text_is_none() -> None:
    text, findings = _listed(["1234", "ab12"], before=" ".join(f"{number:04}" for number in range(10_000)) + " ")
    vault = Vault(Mode.SURROGATE)
    (redacted,) = vault.redact([text], findings)
    assert "<PIN_1>" in redacted and "<PIN_2>" not in redacted
    assert vault.restore(redacted) == text


def test_a_surrogate_that_stands_in_another_is_none() -> None:
    """Of 300 with four digits, some stand in 300 with eight."""
    text, findings = _listed([f"{number:04}" for number in range(300)] + [f"{number:08}" for number in range(10**7, 10**7 + 300)])
    vault = Vault(Mode.SURROGATE)
    (redacted,) = vault.redact([text], findings)
    names = list(vault._names.values())
    assert not any(one in other for one in names for other in names if one is not other)
    assert vault.restore(redacted) == text


def test_a_vault_redacts_once() -> None:
    vault = Vault()
    vault.redact(["I am Anna"], found("I am Anna", ("PERSON", "Anna")))
    with pytest.raises(RuntimeError, match="one request"):
        vault.redact(["I am <PERSON_1>"], [])


def test_more_values_than_surrogates_are_drawn_for_get_pseudonyms() -> None:
    values = [f"anna{number}@bank.test" for number in range(MAX_SURROGATES + 5)]
    text, findings = "", []
    for value in values:
        findings.append(Finding(len(text), len(text) + len(value), "EMAIL_ADDRESS", "pii", 1.0, "t"))
        text += value + " "
    vault = Vault(Mode.SURROGATE)
    (redacted,) = vault.redact([text], findings)
    assert "@example.com" in redacted and "<EMAIL_ADDRESS_5>" in redacted
    assert vault.restore(redacted) == text

"""Law: where the client has asked for JSON, what is put back into the answer leaves it JSON, however it is cut into pieces.

Mutations that turn it red: put the value in as it is in `restoring._for_json`; leave the forms with \\u003c out there; return 1, or 2 in each
case, from `Restorer._escape`; put a surrogate back outside of strings in `Names.value`; leave `json` out of
`Outcome._restorer`.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.redaction import Mode, Vault
from classifiers.verdict import Finding
from tests.support.house import House

VALUES = st.lists(
    st.text(min_size=1, max_size=8)
    | st.sampled_from(['say "x"', "a\\b", "line\nend", "4111 1111", "0123", "98765", "Anna Meyer", "\\u0022"]),
    min_size=1,
    max_size=4,
)
CUTS = st.lists(st.floats(0, 1), max_size=8)
TEXTS = st.text(max_size=4) | st.sampled_from(['"', "\\", "<", "\\u003c", "<PERSON_", "\n", ">", "é"])


def _vault(values: list[str], mode: Mode) -> tuple[Vault, list[str]]:
    """Return a vault, and the name of each value."""
    findings, text = [], ""
    for value in values:
        findings.append(Finding(len(text), len(text) + len(value), "PERSON" if value.istitle() else "NUMBER", "pii", 1.0, "t"))
        text += value + "\x00"
    vault = Vault(mode)
    (redacted,) = vault.redact([text], findings)
    return vault, redacted.split("\x00")[:-1] if "\x00" not in "".join(values) else []


def _chunked(vault: Vault, answer: str, cut_at: list[float]) -> str:
    cuts = sorted(int(part * len(answer)) for part in cut_at)
    restorer = vault.restorer(json=True)
    pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    return "".join(map(restorer.feed, pieces)) + restorer.end()


def _written(texts: list[object], *, escaped: bool, ascii_alone: bool) -> str:
    """JSON as a model may write it."""
    written = json.dumps(texts, ensure_ascii=ascii_alone)
    if escaped:
        written = written.replace("<", "\\u003c").replace(">", "\\u003E")
    return written


@given(VALUES, st.lists(st.tuples(TEXTS, st.integers(0, 3)), max_size=5), CUTS, st.booleans(), st.booleans())
def test_an_answer_with_placeholders_is_the_same_json_with_the_values(
    values: list[str], parts: list[tuple[str, int]], cut_at: list[float], escaped: bool, ascii_alone: bool
) -> None:
    vault, names = _vault(values, Mode.PSEUDONYM)
    if not names:
        return
    pairs = [(text, names[n % len(names)], values[n % len(values)]) for text, n in parts]
    said = [{f"{i}{text}{name}": [text + name + text, 5, None]} for i, (text, name, _) in enumerate(pairs)]
    meant = [{f"{i}{text}{value}": [text + value + text, 5, None]} for i, (text, _, value) in enumerate(pairs)]
    answer = _written(said, escaped=escaped, ascii_alone=ascii_alone)
    restored = _chunked(vault, answer, cut_at)
    assert json.loads(restored) == meant
    assert restored == vault.restore(answer, json=True)


@given(VALUES, st.lists(st.integers(0, 3), max_size=5), CUTS, st.booleans())
def test_an_answer_with_surrogates_stays_json_also_where_they_stand_as_numbers(
    values: list[str], which: list[int], cut_at: list[float], ascii_alone: bool
) -> None:
    vault, names = _vault(values, Mode.SURROGATE)
    if not names:
        return
    chosen = [names[n % len(names)] for n in which]
    said: list[object] = [[name, int(name) if name.isdecimal() and name.isascii() else None, "\u4929"] for name in chosen]
    answer = _written(said, escaped=False, ascii_alone=ascii_alone)
    restored = _chunked(vault, answer, cut_at)
    made = json.loads(restored)
    assert [entry[0] for entry in made] == [values[n % len(values)] for n in which]
    assert restored == vault.restore(answer, json=True)


def test_nothing_is_put_back_inside_of_an_escape() -> None:
    """The digits of \\u4929 are no digits, a backslash that is escaped begins no escape, and an escaped quote ends no string."""
    vault, (name,) = _vault(["01234567"], Mode.SURROGATE)
    answer = f'["\\u{name}", "\\\\u{name}", "\\"", 1{name}, "{name}"]'
    asked = json.loads(answer)
    assert json.loads(vault.restore(answer, json=True)) == [asked[0], "\\u01234567", '"', asked[3], "01234567"]
    vault, (name,) = _vault(['"'], Mode.PSEUDONYM)
    literal = json.dumps(["\\u003c" + name[1:], "\\" + name])
    assert json.loads(vault.restore(literal, json=True)) == ["\\u003c" + name[1:], '\\"']


SECRET = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEAx4\n-----END RSA PRIVATE KEY-----"
FORM = {"type": "json_object"}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_client_gets_is_json(house: House, stream: bool) -> None:
    """The model echoes in capitals, a placeholder too; the client gets JSON with a key of three lines."""
    said = f'{{"KEY":"{SECRET}"}}'
    status, _, answer = await house.chat(said, tenant="redacto", response_format=FORM, stream=stream, max_tokens=200)
    assert status == 200, answer
    assert json.loads(_content(answer, stream)) == {"KEY": SECRET}
    status, _, answer = await house.chat(said, tenant="redacto", stream=stream, max_tokens=200)
    assert _content(answer, stream) == said


def _content(answer: bytes, stream: bool) -> str:
    if not stream:
        return str(json.loads(answer)["choices"][0]["message"]["content"])
    frames = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for frame in frames for choice in frame["choices"])

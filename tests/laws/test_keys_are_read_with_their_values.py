"""Law: what a key says of its value counts for the level, and a value that only its key gives away goes to no place that redacts.

Mutations that turn it red: leave `contexts` out of `stages.prepare`; leave the findings of contexts out of `Classifier._assess`;
leave the look at `finding.text` out of RequestClassifier.redact; read the contexts with the model (the plain forms get a level);
return nothing from `covering.uncovered`, or all of it.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import engine
from classifiers.verdict import Finding
from sync.wire import contexts, strings, tasks
from sync.wire.levels import Level
from tests.support.house import House

TELLING: dict[str, tuple[dict[str, object], Level]] = {
    "a password": ({"properties": {"password": {"const": "Tr0ub4dor&3xyz"}}}, Level.RESTRICTED),
    "a password among others": ({"properties": {"password": {"type": "string", "enum": ["Tr0ub4dor&3xyz"]}}}, Level.RESTRICTED),
    "a number in two": ({"SSN": {"536": "22-8743"}}, Level.RESTRICTED),
    "a number in three": ({"ssn": {"536": {"22": "8743"}}}, Level.RESTRICTED),
    "a number as a bound": ({"properties": {"SSN": {"minimum": 536228743}}}, Level.RESTRICTED),
    "a short number": ({"properties": {"cvv": {"const": 123}}}, Level.RESTRICTED),
    "a key": ({"properties": {"api_key": {"default": "q9k3L8aZ7xYw2vU5tS1r"}}}, Level.RESTRICTED),
    "a birthday": ({"properties": {"date_of_birth": {"const": "1980-03-04"}}}, Level.CONFIDENTIAL),
}
PLAIN: dict[str, dict[str, object]] = {
    "a form": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "email": {"type": "string", "format": "email"},
            "password": {"type": "string", "minLength": 8, "description": "At least 8 characters", "format": "hidden-input"},
            "password_strength": {"enum": ["weak", "strong-enough", "very_strong"]},
            "ssn": {"type": "string", "maxLength": 11, "pattern": "^\\d{3}-\\d{2}-\\d{4}$"},
            "token_type": {"enum": ["bearer", "basic"]},
            "status": {"enum": [200, 201, 400, 401, 403, 404, 500]},
            "birth_year": {"type": "integer", "minimum": 1900, "maximum": 2030},
        },
        "required": ["name", "email", "password"],
    },
    "a choice": {"properties": {"sentiment": {"enum": ["positive", "negative", "neutral"]}}},
    "nothing": {},
}
LOADED = engine.load()


def _request(schema: dict[str, object]) -> tasks.Generate:
    return tasks.Generate(
        messages=(tasks.Message(tasks.Role.USER, "hello"),),
        max_tokens=9,
        response_format=tasks.ResponseFormat(tasks.Format.SCHEMA, tasks.JsonSchema(name="form", schema=schema)),
    )


def _chat(schema: dict[str, object]) -> dict[str, object]:
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}
    return {"model": "guide", "messages": [{"role": "user", "content": "hello"}], "response_format": form}


@pytest.mark.parametrize("name", TELLING)
async def test_a_value_that_its_key_gives_away_has_its_level_and_reaches_no_place_that_redacts(house: House, name: str) -> None:
    schema, level = TELLING[name]
    for at in ("hub", "public", "onprem"):
        status, headers, answer = await house.post("/v1/chat/completions", _chat(schema), at=at)
        assert status == 200, answer
        assert headers["x-ringfence-level"] == level.label
    status, _, answer = await house.post("/v1/chat/completions", _chat(schema), tenant="redacto")
    assert json.loads(answer)["error"]["code"] == "not_redactable", answer


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_form_is_public(name: str) -> None:
    request = _request(PLAIN[name])
    found = LOADED.assess(strings.of(request), all_spans=True, contexts=contexts.of(request))
    assert found.level is Level.PUBLIC, found


def test_what_a_text_shows_by_itself_is_not_counted_again() -> None:
    request = _request({"properties": {"card": {"const": "4111 1111 1111 1111"}, "mail": {"enum": ["anna@bank.test"]}}})
    texts = strings.of(request)
    alone = LOADED.assess(texts, all_spans=True)
    together = LOADED.assess(texts, all_spans=True, contexts=contexts.of(request))
    assert {finding.type for finding in alone.findings} >= {"CREDIT_CARD", "EMAIL_ADDRESS"}
    assert together == alone


def test_a_context_tells_its_findings_by_the_numbers_after_those_of_the_texts() -> None:
    request = _request({"password": "Tr0ub4dor&3xyz"})
    texts, read = strings.of(request), contexts.of(request)
    (finding,) = LOADED.assess(texts, all_spans=True, contexts=read).findings
    assert isinstance(finding, Finding) and finding.text == len(texts)
    assert "Tr0ub4dor&3xyz" in read[0].text[finding.start : finding.end]


NAMES = st.text(max_size=4) | st.sampled_from(["properties", "const", "enum", "536", "x" * 99])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.just("y" * 300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, JSON, max_size=3))
def test_the_pieces_of_a_context_are_the_strings_that_are_redacted(schema: dict[str, object]) -> None:
    request = _request(schema)
    texts = strings.of(request)
    for context in contexts.of(request):
        end = 0
        for piece in context.pieces:
            assert end <= piece.start < piece.end <= len(context.text)
            end = piece.end
            length = piece.end - piece.start
            assert context.text[piece.start : piece.end] == texts[piece.text][piece.offset : piece.offset + length]


def test_a_context_is_not_much_longer_than_its_part() -> None:
    long = {"k" * 100_000: {"enum": ["v" * 10_000] * 100}}
    (context,) = contexts.of(_request(long))
    assert len(context.text) < len(json.dumps(long)) / 10

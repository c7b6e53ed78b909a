"""The law "Refusals speak": every refusal is one sentence of ours, with a stable code, the field and the request's id.

In words:
1. No wrong body brings a library's words, a union's tag or a traceback to a client: the path, then a sentence.
   Mutation: return `first["msg"]` in `mistakes._sentence`, or take an entry out of `mistakes.SENTENCES` and return "msg".
2. What a body lets through, the wire carries unchanged: no value is first refused by an agent.
   Mutation: let `MAX_STOPS`, the bounds of `n` or the keys of `logit_bias` be wider in `bodies` than in `tasks`.
3. Every field that came is looked at, refused by name, or named in `ignored`.
   Mutation: `extra="ignore"` in `bodies._Part`.
4. Every code that can reach a client is in one table with its status, and docs/api.md says the same.
   Mutation: take a line out of `codes.CODES`, or change a status.
5. An agent never chooses a client's status. Mutation: return the code as it is in `codes.of_agent`.
"""

from __future__ import annotations

import ast
import json
import math
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.kit import errors as kit_errors
from sync.serving.api import bodies, codes, errors, fields, mistakes
from sync.serving.api.errors import BadRequest
from sync.wire import strings, tasks

ROOT = Path(__file__).parents[2]
FOREIGN = (
    "Input should", "validation error", "Extra inputs", "pydantic", "type=", "input_value", "Traceback", "Value error", "Field required",
    "valid string", "discriminator", "<text>", "<list>", "<object>", "[key]", "expected value", "{sentence}", "Unable to",
)  # fmt: skip
"""Words of pydantic, of its JSON reader and of our own unions."""

# --- 1 to 3: bodies

SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, None, "x"]}}, "required": ["a"]}
FULL: dict[str, dict[str, Any]] = {
    "ChatBody": {
        "model": "m", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 3, "max_completion_tokens": 4,
        "temperature": 0.5, "top_p": 0, "seed": 7, "stop": ["a", "b"], "n": 2, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1,
        "frequency_penalty": 0.5, "presence_penalty": -0.5, "logit_bias": {"5": -1}, "logprobs": True, "top_logprobs": 2,
        "service_tier": "flex", "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}},
        "messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "t"}], "name": "ann"},
            {"role": "assistant", "content": None, "refusal": None, "tool_calls": []},
        ],
        "tools": [], "tool_choice": "none", "user": "u", "metadata": {"a": "b"},
    },
    "EmbeddingsBody": {"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 5, "user": "u"},
    "ClassifyBody": {"model": "m", "input": "a"},
    "RerankBody": {"model": "m", "query": "q", "documents": ["a", {"text": "b", "id": 1}], "top_n": 1, "return_documents": True},
    "ExplainBody": {"model": "m", "messages": [{"role": "user", "content": "a"}], "stop": "x", "dimensions": 3},
}  # fmt: skip
KINDS: dict[str, type[Any]] = {name: getattr(bodies, name) for name in FULL}
NAMES = st.sampled_from(
    [*FULL["ChatBody"], *FULL["RerankBody"], "input", "type", "text", "role", "content", "schema", "name", "tool_calls", "guided_json", ""]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
    st.sampled_from(["text", "user", "assistant", "tool", "image_url", "json_schema", "none", "required", "5", "nan", "x" * 300]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a body."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*path, key))


def put(value: Any, path: tuple[Any, ...], other: object) -> Any:
    """Return the body with another value at a path."""
    if not path:
        return other
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = put(copy[key], tuple(rest), other)
    return copy


@st.composite
def wrong(draw: st.DrawFn) -> tuple[str, Any]:
    """Return the name of a body's kind, and such a body with one to three values changed or added."""
    name = draw(st.sampled_from(sorted(FULL)))
    body: Any = FULL[name]
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(places(body), key=str)))
        at = body
        for key in path:
            at = at[key]
        if isinstance(at, dict) and draw(st.booleans()):
            body = put(body, path, {**at, draw(NAMES | st.text(max_size=5)): draw(VALUES)})
        else:
            body = put(body, path, draw(VALUES))
    return name, body


def speaks(error: BadRequest) -> None:
    sentence, param = str(error), error.param
    assert sentence.endswith(".") and "\n" not in sentence and len(sentence) < 500, sentence
    assert not any(word in sentence for word in FOREIGN), sentence
    assert param is None or (sentence.startswith(f"{param}: ") and param.isascii() and "<" not in param), (param, sentence)
    assert codes.CODES[error.code].status == 400
    assert mistakes.OTHERWISE not in sentence, "every mistake that can be made has its own sentence"
    json.dumps(errors.body_of(error, "req_1"), allow_nan=False)


def carried(body: bodies.Body) -> None:
    """Assert that a body which was let through arrives as it was sent."""
    try:
        made = body.payload(100)
    except BadRequest as error:
        assert error.code == "max_tokens_exceeded"
        return
    assert tasks.read_request(body.task, tasks.pack(made)) == made
    assert strings.replaced(made, strings.of(made)) == made


@settings(max_examples=1500, deadline=None)
@given(wrong())
def test_a_wrong_body_is_told_in_our_words_and_a_right_one_is_carried(case: tuple[str, Any]) -> None:
    name, body = case
    for data in (json.dumps(body).encode("utf-8", "surrogatepass"), body):
        try:
            carried(bodies.parse(KINDS[name], data))
        except BadRequest as error:
            speaks(error)


EDGES = (
    -(2**64), -(2**63) - 1, -(2**63), -101, -100, -3, -2.01, -2, -1, -0.01, 0, 0.001, 0.01, 0.5, 1, 1.01, 2, 2.01, 10, 10.01, 16, 17, 20, 21,
    100, 101, 128, 129, 65_536, 65_537, 10**6, 10**6 + 1, 10**8, 10**8 + 1, 2**53, 2**63 - 1, 2**63, 2**64, 1e300,
)  # fmt: skip
"""Numbers at and beyond the bounds of the wire's types."""
NUMBERS = sorted(name for name, value in FULL["ChatBody"].items() if type(value) in (int, float))


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_taken_that_the_wire_does_not_carry(name: str) -> None:
    taken = 0
    for edge in EDGES:
        whole = {**FULL["ChatBody"], "max_tokens": 3, "max_completion_tokens": None, name: edge}
        try:
            made = bodies.parse(bodies.ChatBody, whole).payload(10**9)
        except BadRequest as error:
            speaks(error)
        else:
            taken += 1
            assert tasks.read_request("generate", tasks.pack(made)) == made
    assert taken, "some of these are in range"


SIZES: dict[str, tuple[str, Any]] = {
    "messages": ("ChatBody", lambda n: {"messages": [{"role": "user", "content": ""}] * n}),
    "stop": ("ChatBody", lambda n: {"stop": ["a"] * n}),
    "logit_bias": ("ChatBody", lambda n: {"logit_bias": {str(i): 1 for i in range(n)}}),
    "name": ("ChatBody", lambda n: {"response_format": {"type": "json_schema", "json_schema": {"name": "n" * n, "schema": {}}}}),
    "input": ("EmbeddingsBody", lambda n: {"input": ["a"] * n}),
    "documents": ("RerankBody", lambda n: {"documents": ["a"] * n}),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_nothing_is_taken_that_is_longer_than_the_wire_carries(name: str) -> None:
    kind, make = SIZES[name]
    taken = []
    for length in (1, 16, 17, 200, 201, 1024, 1025, 2048, 2049, 2050, 4096, 4097):
        body = {**FULL[kind], "max_tokens": 3, "max_completion_tokens": 3, **make(length)}
        try:
            carried(bodies.parse(KINDS[kind], body))
            taken.append(length)
        except BadRequest as error:
            speaks(error)
    assert 1 in taken and 4097 not in taken


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.binary(max_size=40) | st.text(alphabet='{}[]":,0123456789truefalsn \\u', max_size=30).map(str.encode),
)
def test_bytes_that_are_not_json_are_told_in_our_words(name: str, data: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        bodies.parse(KINDS[name], data)
    speaks(refused.value)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=12), LEAVES, max_size=6))
def test_every_field_that_came_is_looked_at_or_named(more: dict[str, Any]) -> None:
    known = {*FULL["ChatBody"], *fields.CHAT}
    added = {name: value for name, value in more.items() if name not in known and not name.startswith("guided_")}
    body = bodies.parse(bodies.ChatBody, {**FULL["ChatBody"], **added})
    named = {name for name, value in added.items() if value is not None}
    assert len(body.ignored) == len(
        {re.sub(r"[^A-Za-z0-9_.\-]", "?", name) for name in named} | {"user", "metadata", "messages.name"}
    )


def test_every_error_type_that_our_bodies_can_raise_has_a_sentence() -> None:
    """Those that are not in the table belong to types that no body has: dates, sets, addresses, calls."""
    known = set(typing.get_args(pydantic_core.core_schema.ErrorType))
    assert set(mistakes.SENTENCES) <= known
    context = {"min_length": 1, "max_length": 2, "ge": 1, "gt": 0.5, "le": 2, "lt": 3, "expected": "'a' or 'b'"}
    for kind in known:
        sentence = mistakes._sentence(kind, context, "texts")
        assert sentence.endswith(".") and not any(word in sentence for word in FOREIGN)


# --- 4 and 5: codes

WHERE = (
    "sync/policy", "sync/serving", "sync/bus", "sync/audit/journal.py", "edge_agent/work", "edge_agent/inference", "edge_agent/site",
    "orchestrator/dispatch",
)  # fmt: skip
"""What a request passes through: each code that is raised there is in the table, or is named below."""
INSIDE: dict[str, str] = {
    "append_conflict": "the outbox and the intake of journals end it",
    "stream_full": "the outbox waits",
    "broker_too_old": "a process does not start",
    "broker_login_refused": "a process does not start",
    "port_unavailable": "a process does not start",
    "journal_unusable": "a process does not start",
    "foreign_bundle": "the last good bundle stays",
    "stale_bundle": "the last good bundle stays",
    "not_the_base": "the whole bundle is fetched",
    "ledger_rewritten": "an agent keeps its records, and says so",
    "chain_broken": "verify says so",
    "record_too_large": "the journal says record_refused",
    "bad_record": "verify says so",
    "bad_checkpoint": "verify says so",
    "bad_proof": "verify says so",
    "bad_certificate": "a connection is not made",
    "cannot_unlock": "a command",
    "archive_damaged": "a command",
    "not_signed": "a command",
    "bad_parcel": "a command",
    "bad_enrolment_file": "a command; at the entrance it is invalid_request",
    "bad_token": "a command",
    "ledger_moved": "the ledger tries again",
    "rotation_under_way": "a command",
    "broker_not_reloaded": "a job tries again",
    "agent_kept_out": "it is in a renewal's own answer",
    "bad_model_folder": "an agent says it of its own disk: agent_failed",
    "bad_setting": "an agent says it of its own settings: agent_failed",
    "wrong_hub": "a command",
    "bad_release": "an agent's report",
    "release_not_healthy": "an agent's report",
    "fetch_failed": "a command",
    "bad_package": "the last good model stays",
    "bad_evaluation_set": "a command",
    "scan_budget_exceeded": "the classifier fails closed",
    "bad_pattern": "it is a line of bad_configuration",
    "bad_model": "a process does not start",
    "execution_provider_unavailable": "an agent says it of its own machine: agent_failed",
    "bad_classification": "it is a line of bad_configuration",
}
"""Codes that reach no client, each with where it ends."""


def sources(*places: str) -> Iterator[Path]:
    for place in places:
        yield from sorted((ROOT / place).rglob("*.py")) if not place.endswith(".py") else (ROOT / place,)


def literals(path: Path) -> Iterator[str]:
    """Yield what is written as `code="…"` in a call."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "code":
            yield from (
                part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )


def of_classes(path: Path) -> Iterator[str]:
    """Yield what a class has as its `code`."""
    for node in ast.walk(ast.parse(path.read_text())):
        for line in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code" and isinstance(line.value, ast.Constant):
                yield str(line.value.value)


def raised() -> set[str]:
    found = {code for path in sources(*WHERE) for code in literals(path)}
    return found | {code for path in sources("sync", "classifiers", "orchestrator", "edge_agent") for code in of_classes(path)}


def test_every_code_that_can_reach_a_client_is_in_the_table() -> None:
    missing = {code for code in raised() if re.fullmatch(r"[a-z_]+", code)} - set(codes.CODES) - set(INSIDE)
    assert not missing, f"give them a line in sync/serving/api/codes.py, or say in INSIDE where they end: {sorted(missing)}"
    assert not set(INSIDE) & set(codes.CODES)


OF_ITS_MACHINE = {
    "bad_model_folder", "bad_package", "bad_setting", "fetch_failed", "foreign_bundle", "model_task_mismatch",
}  # fmt: skip
"""What an agent says of its own disk and settings: for its log, and for a client agent_failed."""


def test_what_an_agent_says_of_a_request_is_taken_from_it() -> None:
    said = {code for path in sources("edge_agent/work", "edge_agent/inference") for code in (*literals(path), *of_classes(path))}
    assert {code for code in said if codes.of_agent(code) != code} == OF_ITS_MACHINE


def documented() -> dict[str, int]:
    """Return the codes of docs/api.md's table with their statuses."""
    text = (ROOT / "docs" / "api.md").read_text().split("\n## Errors\n")[1]
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", text, re.MULTILINE)
    return {code: int(status) for status, cell in rows for code in re.findall(r"`([a-z_]+)`", cell)}


def test_the_documentation_has_every_code_with_its_status() -> None:
    assert documented() == {code: entry.status for code, entry in codes.CODES.items()}


def test_each_code_says_what_it_means_and_what_to_do() -> None:
    for code, entry in codes.CODES.items():
        assert re.fullmatch(r"[a-z_]{3,64}", code) and entry.meaning and entry.remedy
        assert 400 <= entry.status <= 504


@given(st.text(max_size=70) | st.sampled_from(sorted(codes.CODES)))
def test_an_agent_does_not_choose_a_clients_status(code: str) -> None:
    heard = codes.of_agent(code)
    status = codes.CODES[heard].status
    assert status not in (401, 403, 405, 408, 413, 415, 429, 431)
    assert codes.CODES[heard].of_agent or status == 502
    assert codes.of_hub(code) in codes.CODES


def test_what_an_agents_own_check_refuses_is_not_the_clients_fault() -> None:
    for code in ("tenant_unknown", "ticket_expired", "outside_policy", "bundle_stale"):
        assert codes.of_agent(code) == "agent_refused"
    for code in ("invalid_api_key", "rate_limit_exceeded", "bad_model_folder", "nobody_knows", ""):
        assert codes.of_agent(code) == "agent_failed"
    assert codes.of_agent("overloaded") == "overloaded"


FAMILIES = {
    "refused": (kit_errors.Refused, 400), "retryable": (kit_errors.Retryable, 503), "corrupt": (kit_errors.Corrupt, 502),
    "misconfigured": (kit_errors.Misconfigured, 500), "the root": (kit_errors.RingfenceError, 500),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_code_that_nobody_knows_has_its_familys_status(name: str) -> None:
    kind, status = FAMILIES[name]
    assert codes.status_of(kind("x", code="nobody_knows")) == status
    assert codes.status_of(kind("x", code="overloaded")) == 503, "a known code has its own, whatever its family"


@given(st.floats() | st.integers())
def test_how_long_to_wait_is_a_number_of_seconds_or_not_said(wait: float) -> None:
    error = kit_errors.Retryable("later", retry_after_s=wait)
    said = errors.response_of(error, "req_1").headers.get("retry-after")
    assert (said is None) == (math.isnan(wait) or wait <= 0)
    assert said is None or 1 <= int(said) <= 24 * 3600
    wrong = kit_errors.Retryable("never", code="not_redactable", retry_after_s=5)
    assert "retry-after" not in errors.response_of(wrong, "req_1").headers

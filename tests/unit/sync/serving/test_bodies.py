"""Bodies: what is taken, what is refused by name, what is named as ignored, and the sentences for mistakes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from sync.serving.api import bodies, codes, headers, schemas
from sync.serving.api.errors import BadRequest
from sync.wire import strings, tasks

SAY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
EMBED: dict[str, Any] = {"model": "m", "input": "a"}
RANK: dict[str, Any] = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}]}


def chat(**more: object) -> bodies.ChatBody:
    return bodies.parse(bodies.ChatBody, json.dumps({**SAY, **more}).encode())


def said(*messages: object) -> bodies.ChatBody:
    return chat(messages=list(messages))


def refusal(kind: type[Any], body: object) -> BadRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(BadRequest) as refused:
        bodies.parse(kind, data)
    return refused.value


NULLS = (
    "stream", "stream_options", "n", "tools", "functions", "tool_choice", "function_call", "stop", "temperature", "top_p", "seed",
    "max_tokens", "max_completion_tokens", "logit_bias", "logprobs", "top_logprobs", "response_format", "service_tier", "user",
    "modalities", "audio", "web_search_options", "reasoning_effort", "verbosity", "guided_json", "chat_template", "nobody_knows",
    "parallel_tool_calls", "prompt", "ignore_eos", "presence_penalty", "frequency_penalty", "metadata", "store",
)  # fmt: skip


@pytest.mark.parametrize("name", NULLS)
def test_null_is_a_field_that_was_left_out(name: str) -> None:
    assert chat(**{name: None}) == chat()
    assert chat(**{name: None}).ignored == ()


def test_null_is_taken_in_parts_and_other_bodies_too() -> None:
    body = bodies.parse(bodies.EmbeddingsBody, b'{"model": "m", "input": "a", "encoding_format": null, "user": null}')
    assert body.encoding_format == "float" and body.ignored == ()
    assert not chat(stream_options={"include_usage": None}).stream_options.include_usage
    form = {"type": "json_schema", "json_schema": {"name": "n", "strict": None, "schema": {"enum": [None]}}}
    assert chat(response_format=form).payload(9).response_format.json_schema.schema == {"enum": [None]}


NEUTRAL: dict[str, object] = {
    "tools": [], "functions": [], "tool_choice": "none", "function_call": "auto", "top_p": 0, "modalities": ["text"],
    "ignore_eos": False, "min_tokens": 0, "stop_token_ids": [], "bad_words": [], "chat_template_kwargs": {}, "best_of": 1,
    "guided_json": {}, "documents": [],
}  # fmt: skip


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_value_that_says_what_happens_anyhow_is_taken(name: str) -> None:
    body = chat(**{name: NEUTRAL[name]})
    assert body.ignored == () and isinstance(body.payload(9), tasks.Generate)


LEFT_OVER = {"refusal": None, "audio": None, "function_call": None, "tool_calls": None, "annotations": []}


@pytest.mark.parametrize("content", [None, "", "hi"])
@pytest.mark.parametrize("calls", [None, []])
def test_an_assistants_message_is_taken_back_as_it_was_given(content: str | None, calls: object) -> None:
    message = {"role": "assistant", "content": content, **LEFT_OVER, "tool_calls": calls}
    body = said(SAY["messages"][0], message)
    assert body.payload(9).messages[1] == tasks.Message(tasks.Role.ASSISTANT, content or "")
    assert body.ignored == ("messages.annotations",)


UNSUPPORTED: dict[str, tuple[dict[str, object], str]] = {
    **{name: ({name: value}, name) for name, value in {
        "tools": [{}], "functions": [{}], "tool_choice": "required", "function_call": {"name": "f"}, "modalities": ["text", "audio"],
        "audio": {}, "web_search_options": {}, "reasoning_effort": "low", "verbosity": "high", "guided_regex": "a",
        "structured_outputs": {"json": {}}, "chat_template_kwargs": {"a": 1}, "chat_template": "x", "prompt": {"id": "p"},
        "ignore_eos": True, "min_tokens": 3, "stop_token_ids": [1], "bad_words": ["x"], "best_of": 2,
    }.items()},
    "a named tool": ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    "a tool's message": ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]}, "messages.0.role"),
    "a function's message": ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, "messages.0.role"),
    "calls of tools": ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, "messages.0.tool_calls"),
    "an image": ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content.0.type"),
    "a sound": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}]}, "messages.0.content.1.type"),
    "a file": ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages.0.content.0.type"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_would_change_the_answer_is_refused_by_its_name(name: str) -> None:
    more, param = UNSUPPORTED[name]
    error = refusal(bodies.ChatBody, {**SAY, **more})
    assert (error.code, error.param) == ("unsupported", param)
    assert str(error).startswith(f"{param}: ") and str(error).endswith(".")


def test_an_image_is_refused_in_words_for_people() -> None:
    error = refusal(bodies.ChatBody, {**SAY, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]})
    assert "This API takes text only: parts of the type image_url are not supported." in str(error)


def test_what_is_harmless_or_unknown_is_named_once_and_in_order() -> None:
    harmless = {
        "user": "u", "metadata": {}, "store": True, "prompt_cache_key": "k", "prompt_cache_retention": "24h", "safety_identifier": "s",
        "prediction": {"type": "content"}, "parallel_tool_calls": False, "service_tier": "priority", "temprature": 1,
        "stream_options": {"include_obfuscation": False}, "payload": 1, "model_extra": 2, "__class__": 3,
    }  # fmt: skip
    messages = [{"role": "user", "name": "ann", "content": [{"type": "text", "text": "a", "cache_control": {}}]}] * 3
    expected = {*harmless, "messages.name", "messages.content.cache_control", "stream_options.include_obfuscation"} - {
        "stream_options"
    }
    assert chat(**harmless, messages=messages).ignored == tuple(sorted(expected))
    assert chat(service_tier="flex").ignored == chat(service_tier="auto").ignored == ()
    assert chat(service_tier="flex").batch and not chat(service_tier="priority").batch


def test_names_of_ignored_fields_fit_into_a_header_whatever_they_are() -> None:
    body = chat(**{f"a\r\nx-evil: {i}" + "é" * 100: 1 for i in range(200)})
    value = headers.ignored(body.ignored)
    assert len(value) <= headers.MAX_IGNORED and value.isascii() and value.isprintable() and value.endswith(", ...")
    assert all(len(name) <= 64 for name in body.ignored)
    assert headers.ignored(("a", "b")) == "a, b"
    assert len(headers.ignored(("x" * 1000,))) == 1000


WRONG: dict[str, tuple[type[Any], object, str | None, str]] = {
    "no JSON": (bodies.ChatBody, b'{"model": }', None, "The body is not JSON: look at line 1 column 11."),
    "no object": (bodies.ChatBody, [], None, "The body: give an object."),
    "nothing": (bodies.ChatBody, b"", None, "The body is not JSON: look at line 1 column 0."),
    "no UTF-8": (bodies.ChatBody, b'{"model": "\xff"}', None, "The body is not JSON: look at line 1 column 12."),
    "NaN": (bodies.ChatBody, b'{"temperature": NaN}', None, "The body is not JSON: look at line 1 column 17."),
    "no model": (bodies.ChatBody, {"messages": SAY["messages"]}, "model", "model: this field is required."),
    "a long model": (bodies.ChatBody, {**SAY, "model": "x" * 201}, "model", "model: a text may have at most 200 characters."),
    "no tokens": (bodies.ChatBody, {**SAY, "max_tokens": 0}, "max_tokens", "max_tokens: give a whole number of at least 1."),
    "half a token": (bodies.ChatBody, {**SAY, "max_tokens": 1.5}, "max_tokens", "max_tokens: give a whole number."),
    "words for a number": (bodies.ChatBody, {**SAY, "n": "many"}, "n", "n: give a whole number."),
    "a huge number": (bodies.ChatBody, {**SAY, "seed": 10**40}, "seed", "seed: give a whole number of at most 9223372036854775807."),
    "too hot": (bodies.ChatBody, {**SAY, "temperature": 3}, "temperature", "temperature: give a number of at most 2."),
    "infinitely hot": (bodies.ChatBody, b'{"model": "m", "messages": [{"role": "user", "content": "a"}], "temperature": 1e999}', "temperature", "temperature: give a number."),
    "no truth": (bodies.ChatBody, {**SAY, "stream": "perhaps"}, "stream", "stream: give true or false."),
    "no messages": (bodies.ChatBody, {**SAY, "messages": []}, "messages", "messages: give at least one of its messages."),
    "a text for messages": (bodies.ChatBody, {**SAY, "messages": "hi"}, "messages", "messages: give a list."),
    "a message that is a text": (bodies.ChatBody, {**SAY, "messages": ["hi"]}, "messages.0", "messages.0: give an object."),
    "too many messages": (bodies.ChatBody, {**SAY, "messages": SAY["messages"] * 4097}, "messages", "messages: at most 4096 messages are taken."),
    "a stranger": (bodies.ChatBody, {**SAY, "messages": [{"role": "god", "content": "x"}]}, "messages.0.role", "messages.0.role: give one of 'system', 'developer', 'user' or 'assistant'."),
    "content of nobody": (bodies.ChatBody, {**SAY, "messages": [{"role": "user", "content": None}]}, "messages.0.content", "messages.0.content: this field is required."),
    "content as a number": (bodies.ChatBody, {**SAY, "messages": [{"role": "user", "content": 5}]}, "messages.0.content", "messages.0.content: give a text or a list."),
    "a part as a text": (bodies.ChatBody, {**SAY, "messages": [{"role": "user", "content": ["a"]}]}, "messages.0.content.0", "messages.0.content.0: give an object."),
    "a part without text": (bodies.ChatBody, {**SAY, "messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text", "messages.0.content.0.text: this field is required."),
    "hundreds of fields": (bodies.ChatBody, {**SAY, **{f"x{i}": 1 for i in range(255)}}, None, "The body: at most 256 fields are taken."),
    "17 stops": (bodies.ChatBody, {**SAY, "stop": ["a"] * 17}, "stop", "stop: at most 16 texts are taken."),
    "a long stop": (bodies.ChatBody, {**SAY, "stop": ["a", "b" * 1001]}, "stop.1", "stop.1: a text may have at most 1000 characters."),
    "a word as a token": (bodies.ChatBody, {**SAY, "logit_bias": {"the": 1}}, "logit_bias", "logit_bias: the keys are token numbers: digits, at most 7."),
    "a token of eight digits": (bodies.ChatBody, {**SAY, "logit_bias": {"12345678": 1}}, "logit_bias", "logit_bias: the keys are token numbers: digits, at most 7."),
    "a token with a line's end": (bodies.ChatBody, {**SAY, "logit_bias": {"1\n": 1}}, "logit_bias", "logit_bias: the keys are token numbers: digits, at most 7."),
    "a great bias": (bodies.ChatBody, {**SAY, "logit_bias": {"7": 101}}, "logit_bias.7", "logit_bias.7: give a number of at most 100."),
    "many biases": (bodies.ChatBody, {**SAY, "logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias", "logit_bias: at most 1024 tokens are taken."),
    "scores of nothing": (bodies.ChatBody, {**SAY, "top_logprobs": 1}, "top_logprobs", "top_logprobs: needs logprobs to be true."),
    "a form without a schema": (bodies.ChatBody, {**SAY, "response_format": {"type": "json_schema"}}, "response_format", "response_format: json_schema goes with the type 'json_schema'."),
    "2049 inputs": (bodies.EmbeddingsBody, {**EMBED, "input": ["a"] * 2049}, "input", "input: at most 2048 texts are taken."),
    "no inputs": (bodies.EmbeddingsBody, {**EMBED, "input": []}, "input", "input: give at least one of its texts."),
    "an empty input": (bodies.EmbeddingsBody, {**EMBED, "input": ["a", ""]}, "input.1", "input.1: a text is empty."),
    "an encoding of nobody": (bodies.EmbeddingsBody, {**EMBED, "encoding_format": "hex"}, "encoding_format", "encoding_format: give one of 'float' or 'base64'."),
    "documents as numbers": (bodies.RerankBody, {**RANK, "documents": [5]}, "documents.0", "documents.0: give a text, or an object with text."),
    "an empty document": (bodies.RerankBody, {**RANK, "documents": [{"text": ""}]}, "documents.0.text", "documents.0.text: a text is empty."),
    "neither of two": (bodies.ExplainBody, {"model": "m"}, None, "The body: give either messages or input."),
    "both of two": (bodies.ExplainBody, {"messages": SAY["messages"], "input": "x"}, None, "The body: give either messages or input."),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_by_its_field_in_our_words(name: str) -> None:
    kind, body, param, sentence = WRONG[name]
    error = refusal(kind, body)
    assert (str(error), error.param) == (sentence, param)
    assert codes.status_of(error) == 400


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_token_numbers_are_refused_with_the_remedy(tokens: object) -> None:
    error = refusal(bodies.EmbeddingsBody, {**EMBED, "input": tokens})
    assert error.code == "unsupported" and error.param == "input" and "check_embedding_ctx_length=False" in str(error)


def nested(levels: int) -> dict[str, object]:
    schema: dict[str, object] = {}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return schema


SCHEMAS: dict[str, tuple[str, str]] = {
    "an integer over 64 bits": (f'{{"maximum": {2**64}}}', "a whole number in the schema has over 64 bits"),
    "an integer far below": (f'{{"minimum": {-(2**63) - 1}}}', "a whole number in the schema has over 64 bits"),
    "infinity": ('{"maximum": 1e999}', "a number in the schema is not finite"),
    "too deep": (json.dumps(nested(65)), "nested at most 64 levels"),
    "too large": (json.dumps({"enum": list(range(20_000))}), "at most 20000 values"),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_cannot_be_carried_is_refused(name: str) -> None:
    schema, words = SCHEMAS[name]
    text = json.dumps({**SAY, "response_format": {"type": "json_schema", "json_schema": {"schema": 0}}})
    error = refusal(bodies.ChatBody, text.replace('"schema": 0', f'"schema": {schema}').encode())
    assert error.code == "invalid_request" and words in str(error)
    assert error.param == "response_format.json_schema.schema"


def test_a_schema_at_its_limits_is_carried() -> None:
    for schema in (nested(64), {"maximum": 2**64 - 1, "minimum": -(2**63)}, {"enum": list(range(19_998))}):
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        made = chat(response_format=form).payload(9)
        assert tasks.read_request("generate", tasks.pack(made)) == made
    assert schemas.problem({"a": b"bytes"}) and schemas.problem({1: 2}) and schemas.problem({"a": float("nan")})


def test_a_forwarded_body_may_have_tuples_for_lists_and_no_bytes() -> None:
    body = bodies.parse(
        bodies.ChatBody, {**SAY, "messages": ({"role": "user", "content": ({"type": "text", "text": "a"},)},), "stop": ("x",)}
    )
    assert body.payload(5) == said({"role": "user", "content": "a"}).payload(5).__class__(
        messages=(tasks.Message(tasks.Role.USER, "a"),), max_tokens=5, stop=("x",)
    )
    assert bodies.parse(bodies.EmbeddingsBody, {"model": "m", "input": ("a", "b")}).payload(0).input == ("a", "b")
    for wrong in ({**SAY, "model": b"m"}, {**SAY, b"x": 1}, {**SAY, "messages": [{"role": "user", "content": b"a"}]}):
        with pytest.raises(BadRequest):
            bodies.parse(bodies.ChatBody, wrong)


def test_payloads_hold_what_was_asked_for() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = chat(
        messages=[{"role": "developer", "content": parts}],
        stop="x",
        n=2,
        max_tokens=3,
        max_completion_tokens=7,
        logit_bias={"5": -1},
    )
    made = body.payload(100)
    assert made.messages == (tasks.Message(tasks.Role.DEVELOPER, "ab"),), "parts stand one after another, as with OpenAI"
    assert (made.stop, made.n, made.max_tokens, made.logit_bias) == (("x",), 2, 7, {"5": -1.0})
    assert (body.task, body.wanted_tokens, body.stream, body.model) == ("generate", 7, False, "m")
    assert chat().payload(100).max_tokens == 100 and chat().wanted_tokens is None
    assert chat(response_format={"type": "text"}).payload(1).response_format is None
    with pytest.raises(BadRequest) as refused:
        body.payload(6)
    assert (refused.value.code, refused.value.param) == ("max_tokens_exceeded", "max_completion_tokens")
    rank = bodies.parse(bodies.RerankBody, json.dumps(RANK).encode())
    assert rank.payload(0).input == ("q", "a", "b") and rank.task == "rerank"
    labels = bodies.parse(bodies.ClassifyBody, b'{"input": ["a"]}')
    assert labels.payload(0).input == ("a",) and labels.model is None and not labels.stream and labels.wanted_tokens is None


def test_an_explanation_reads_the_same_strings_as_the_request() -> None:
    asked = {
        **SAY,
        "stop": ["s"],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["e"]}}},
    }
    explained = bodies.parse(bodies.ExplainBody, json.dumps({**asked, "stream": True, "max_tokens": 5}).encode())
    assert strings.of(explained.payload(5)) == strings.of(chat(**asked).payload(5))
    assert explained.task == "generate" and not explained.stream and explained.ignored == ("stream",)
    with pytest.raises(BadRequest, match="at most 4"):
        explained.payload(4)
    embedded = bodies.parse(bodies.ExplainBody, b'{"input": ["a", "b"]}')
    assert embedded.payload(0) == tasks.Embed(("a", "b")) and embedded.task == "embed" and embedded.model is None


HEAVY: dict[str, bytes] = {
    "unknown fields": json.dumps({**SAY, **{f"x{i}": i for i in range(250_000)}}).encode(),
    "biases": json.dumps({**SAY, "logit_bias": {f"k{i}": "x" for i in range(200_000)}}).encode(),
    "messages": json.dumps({**SAY, "messages": [1] * 1_000_000}).encode(),
    "wrong messages": json.dumps({**SAY, "messages": [{"a": 1}] * 4096}).encode(),
    "parts": json.dumps({**SAY, "messages": [{"role": "user", "content": [1] * 1_000_000}]}).encode(),
    "schema": json.dumps({**SAY, "response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": [1] * 1_000_000}}}}).encode(),
    "input": json.dumps({**SAY, "stop": [1] * 1_000_000}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", HEAVY)
def test_a_body_of_the_largest_size_costs_less_than_a_second(name: str) -> None:
    began = time.process_time()
    try:
        assert len(bodies.parse(bodies.ChatBody, HEAVY[name]).ignored) <= 100
    except BadRequest as error:
        assert len(str(error)) < 500
    assert time.process_time() - began < 1.0

"""An app team points its unmodified OpenAI client at the hub."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openai
import pytest

from tests.support import running as support
from tests.support import system


def ask(app: openai.OpenAI, text: str, model: str = "guide", **options: object):
    return app.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **options)  # type: ignore[call-overload]


def test_a_question_gets_its_answer_with_exact_usage(app: openai.OpenAI) -> None:
    answer = ask(app, "What is Ringfence?")
    assert "where each prompt may be processed" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 10


def test_a_stream_says_the_same_as_the_whole_and_ends_with_its_usage(app: openai.OpenAI) -> None:
    whole = ask(app, "What is a receipt?", extra_headers={"cache-control": "no-store"})
    pieces = list(
        ask(
            app,
            "What is a receipt?",
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"cache-control": "no-store"},
        )
    )
    text = "".join(c.delta.content or "" for p in pieces for c in p.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].usage.total_tokens == whole.usage.total_tokens
    assert pieces[-1].usage.prompt_tokens_details.cached_tokens >= 16, "the second time the prompt is not computed again"
    assert pieces[-2].choices[0].finish_reason == "stop"
    assert pieces[0].choices[0].delta.role == "assistant"


def test_max_tokens_cuts_the_answer_and_says_so(app: openai.OpenAI) -> None:
    answer = ask(app, "What is a zone?", max_tokens=3)
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def test_a_stop_string_ends_the_answer_before_it(app: openai.OpenAI) -> None:
    answer = ask(app, "What is a zone?", stop=["on_premise"])
    assert "on_premise" not in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


def test_the_same_seed_gives_the_same_answer(app: openai.OpenAI) -> None:
    options = {"temperature": 1.5, "seed": 7, "extra_headers": {"cache-control": "no-store"}}
    assert ask(app, "hello", **options).choices[0].message.content == ask(app, "hello", **options).choices[0].message.content


def test_embeddings_are_near_for_what_means_the_same(app: openai.OpenAI) -> None:
    texts = ["how do i create an api key", "which command makes a key", "what happens when the disk is full"]
    answer = app.embeddings.create(model="guide-embed", input=texts)
    a, b, c = (np.array(row.embedding) for row in answer.data)
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-3)
    assert a @ b > a @ c
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 10
    plain = app.embeddings.create(model="guide-embed", input=texts, encoding_format="float")
    assert np.allclose([row.embedding for row in plain.data], [a, b, c], atol=1e-6)


def test_embeddings_can_be_cut_to_fewer_dimensions(app: openai.OpenAI) -> None:
    answer = app.embeddings.create(model="guide-embed", input="hello", dimensions=32)
    assert len(answer.data[0].embedding) == 32
    assert np.linalg.norm(answer.data[0].embedding) == pytest.approx(1, abs=1e-3)
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        app.embeddings.create(model="guide-embed", input="hello", dimensions=9999)


def test_the_models_of_the_tenant_are_listed(app: openai.OpenAI) -> None:
    assert [m.id for m in app.models.list()] == [
        "guide", "guide-embed", "quick", "slow", "absent", "open", "shapes", "ranker", "upstream",
    ]  # fmt: skip
    assert app.models.retrieve("guide").id == "guide"
    with pytest.raises(openai.NotFoundError):
        app.models.retrieve("secret")


def test_an_answer_says_where_it_ran(app: openai.OpenAI) -> None:
    raw = app.chat.completions.with_raw_response.create(
        model="guide", messages=[{"role": "user", "content": "card 4111111111111111"}]
    )
    told = {name: value for name, value in raw.headers.items() if name.startswith("x-")}
    assert told["x-ringfence-level"] == "restricted"
    assert told["x-ringfence-zone"] == "on_premise"
    assert told["x-ringfence-region"] == "eu-central-1"
    assert told["x-ringfence-agent"] == "frankfurt-onprem"
    assert told["x-ringfence-cache"] == "off"
    assert told["x-ringfence-decision"].startswith("dec_")
    assert told["x-request-id"].startswith("req_")
    assert int(told["x-ratelimit-remaining-requests"]) < int(told["x-ratelimit-limit-requests"])


def test_every_answer_carries_its_id_and_the_callers_trace(app: openai.OpenAI) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for stream in (False, True):
        raw = app.chat.completions.with_raw_response.create(
            model="quick", messages=[{"role": "user", "content": "hello"}], stream=stream, extra_headers={"traceparent": trace}
        )  # type: ignore[call-overload]
        assert raw.headers["x-request-id"].startswith("req_")
        assert raw.headers["traceparent"] == trace
    with pytest.raises(openai.PermissionDeniedError) as refused:
        ask(app, "the password is hunter2!")
    assert refused.value.response.headers["x-ringfence-level"] == "restricted"
    assert refused.value.response.headers["x-ringfence-decision"].startswith("dec_")


ERRORS = {
    "401 for an unknown key": (openai.AuthenticationError, "invalid_api_key", {"key": "rf_live_0123456789_" + "a" * 49}),
    "401 for a key with a wrong checksum": (openai.AuthenticationError, "invalid_api_key", {"key": "flip"}),
    "404 for a model of others": (openai.NotFoundError, "model_not_found", {"model": "secret"}),
    "403 for what no place may process": (openai.PermissionDeniedError, "policy_denied", {"text": "the password is hunter2!"}),
    "404 for an unknown model": (openai.NotFoundError, "model_not_found", {"model": "gpt-9"}),
    "400 for a model of another task": (openai.BadRequestError, "model_task_mismatch", {"model": "guide-embed"}),
    "400 for too many tokens": (openai.BadRequestError, "max_tokens_exceeded", {"max_tokens": 100_000}),
    "400 for tools": (openai.BadRequestError, "unsupported", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
    "400 for too many answers": (openai.BadRequestError, "invalid_request", {"n": 17}),
    "400 for a temperature that is none": (openai.BadRequestError, "invalid_request", {"temperature": 9}),
    "400 for scores of nothing": (openai.BadRequestError, "invalid_request", {"top_logprobs": 3}),
    "400 for a schema that is none": (
        openai.BadRequestError,
        "bad_schema",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "banana"}}}},
    ),
    "503 for a model that no agent has": (openai.InternalServerError, "no_eligible_agent", {"model": "absent"}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_clients_own_exception_is_raised_with_a_stable_code(name: str, running: system.System) -> None:
    kind, code, options = ERRORS[name]
    options = dict(options)
    key = str(options.pop("key", running.api_key))
    if key == "flip":
        key = running.api_key[:-1] + ("a" if running.api_key[-1] != "a" else "b")
    with support.client(running, key) as app, pytest.raises(kind) as raised:
        ask(app, str(options.pop("text", "hello")), **options)
    assert raised.value.code == code
    assert raised.value.body["request_id"] == raised.value.response.headers["x-request-id"]
    assert "Traceback" not in raised.value.response.text


def test_429_with_retry_after_when_a_tenant_has_used_its_minute(running: system.System, key_of: Callable[[str], str]) -> None:
    with support.client(running, key_of("small")) as app:
        for _ in range(5):
            try:
                ask(app, "hello", "quick")
            except openai.RateLimitError as error:
                assert error.code == "rate_limit_exceeded"
                assert int(error.response.headers["retry-after"]) >= 1
                return
    pytest.fail("the limit was never reached")


def test_a_declared_level_can_only_raise(running: system.System, app: openai.OpenAI) -> None:
    def level(text: str, declared: str) -> str:
        raw = app.chat.completions.with_raw_response.create(
            model="quick", messages=[{"role": "user", "content": text}], extra_headers={"x-ringfence-level": declared}
        )
        return raw.headers["x-ringfence-level"]

    assert level("hello", "confidential") == "confidential"
    assert level("card 4111111111111111", "public") == "restricted"
    with pytest.raises(openai.BadRequestError, match="public, internal"):
        level("hello", "secret")

"""The HTTP surface of hub and sites, over a real server: bodies, answers, errors, streams."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from sync.kit import errors
from sync.kit.ids import RequestId
from sync.policy.authenticate import InvalidKey
from sync.policy.authorize import Forbidden
from sync.policy.decide import PolicyDenied, Reason
from sync.serving.api import answers, bodies, codes, headers
from sync.serving.api.answers import Frames, NoAnswer, Usage
from sync.serving.api.errors import BadRequest, TooLarge, body_of, of_aiohttp
from sync.serving.api.server import TOLD, Server
from sync.serving.ask import Ask
from sync.serving.limits import LimitReached
from sync.wire import strings, tasks

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SCORE = tasks.TokenScore("h", -0.5, (104,), (tasks.LikelyToken("h", -0.5, (104,)),))
SAID = {"token": "h", "logprob": -0.5, "bytes": [104]}


class Lost(errors.Retryable):
    """An error whose code nobody knows: its family decides."""

    code = "nobody_knows"


RAISED = {
    "key": InvalidKey("no key"), "forbidden": Forbidden("no"), "limit": LimitReached("slowly", retry_after_s=2.5), "lost": Lost("gone"),
    "policy": PolicyDenied("nowhere", reasons=(Reason("r", "why"),), level="restricted", decision="dec_1"),
    "coded": errors.RingfenceError("full", code="agent_lost"), "uncoded": errors.RingfenceError("odd", code="odd"),
    "inside": ZeroDivisionError("secret words"), "never": errors.Retryable("later", retry_after_s=float("inf")),
    "large": TooLarge("large"), "badly": BadRequest("wrong", param="x"), "aiohttp": web.HTTPMethodNotAllowed("GET", ["POST"]),
}  # fmt: skip


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """A server whose handlers give back what they understood."""

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await bodies.read(request, bodies.ChatBody)
        made = body.payload(100)
        return web.json_response({"texts": strings.of(made), "max_tokens": made.max_tokens, "batch": body.batch, "level": headers.declared_level(request).label, "trace": headers.trace(request), "subject": headers.subject(request), "key": headers.api_key(request)})  # fmt: skip

    async def other(request: web.Request) -> web.StreamResponse:
        kind = {"embeddings": bodies.EmbeddingsBody, "rerank": bodies.RerankBody, "classify": bodies.ClassifyBody, "explain": bodies.ExplainBody}[request.match_info["kind"]]  # fmt: skip
        body: bodies.Body = await bodies.read(request, kind)
        return web.json_response({"task": body.task, "texts": strings.of(body.payload(0))})

    async def fail(request: web.Request) -> web.StreamResponse:
        raise RAISED[request.match_info["name"]]

    async def stream(request: web.Request) -> web.StreamResponse:
        frames = Frames("req_1", "m", with_usage=True)
        response = await answers.open_stream(request, {"x-test": "1"})
        await answers.write(response, frames.begin(2) + frames.piece("hé\ud83d", 1, (SCORE,)))
        if "fail" in request.query:
            error = Lost("in the middle")
            await answers.write(response, answers.event(body_of(error, request[headers.REQUEST_ID])))
            await response.write_eof()
            request[TOLD] = response
            raise error
        await answers.write(response, frames.end({0: "stop", 1: "length"}, Usage(3, 4, 2)))
        await response.write_eof()
        return response

    routes = [web.post("/chat", chat), web.post("/other/{kind}", other), web.get("/fail/{name}", fail), web.get("/stream", stream)]
    server = Server(
        routes, option="--port", max_body=1 << 20, on_refused=lambda request, error: REFUSED.append((request.path, error.code))
    )
    port = await server.start("127.0.0.1", 0)
    with pytest.raises(errors.Misconfigured, match="Choose another"):
        await Server([], option="--port").start("127.0.0.1", port)
    yield f"http://127.0.0.1:{port}"
    await server.stop()


REFUSED: list[tuple[str, str]] = []
"""What the hook was told."""


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


SAY = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}


async def test_a_request_is_read_with_its_headers(site: str, http: aiohttp.ClientSession) -> None:
    sent = {"x-ringfence-level": "internal", "traceparent": TRACE, "x-ringfence-subject": "jane", "authorization": "bearer  k "}
    async with http.post(f"{site}/chat", json=SAY, headers=sent) as response:
        told = await response.json()
        assert response.headers["traceparent"] == TRACE and response.headers["x-request-id"].startswith("req_")
        assert response.headers["server"] == "ringfence"
    assert (told["texts"], told["level"], told["trace"], told["subject"], told["key"]) == (["ab"], "internal", TRACE, "jane", "k")
    assert told["max_tokens"] == 100 and not told["batch"]


LEVELS = {
    "two headers": (["public", "restricted"], "restricted"), "a list": (["public, confidential,internal"], "confidential"),
    "both": (["internal", "public,,  Restricted "], "restricted"), "none": ([], "public"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEVELS)
async def test_several_declared_levels_count_as_the_highest(site: str, http: aiohttp.ClientSession, name: str) -> None:
    values, level = LEVELS[name]
    async with http.post(f"{site}/chat", json=SAY, headers=[("x-ringfence-level", value) for value in values]) as response:
        assert (await response.json())["level"] == level


async def test_two_keys_are_refused(site: str, http: aiohttp.ClientSession) -> None:
    async with http.post(
        f"{site}/chat", json=SAY, headers=[("authorization", "Bearer a"), ("authorization", "Bearer b")]
    ) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "authorization")


WRONG = {
    "no JSON": ("/chat", b"{", 400, "invalid_json", None), "no object": ("/chat", b"[]", 400, "invalid_request", None),
    "no messages": ("/chat", {"model": "m", "messages": []}, 400, "invalid_request", "messages"),
    "a part that is no text": ("/chat", {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "unsupported", "messages.0.content.0.type"),
    "too many tokens": ("/chat", {**SAY, "max_tokens": 101}, 400, "max_tokens_exceeded", "max_tokens"),
    "tools": ("/chat", {**SAY, "tools": [{}]}, 400, "unsupported", "tools"),
    "a form without its schema": ("/chat", {**SAY, "response_format": {"type": "json_schema"}}, 400, "invalid_request", "response_format"),
    "a bias over its limit": ("/chat", {**SAY, "logit_bias": {"1": 101}}, 400, "invalid_request", None),
    "scores of nothing": ("/chat", {**SAY, "top_logprobs": 1}, 400, "invalid_request", None),
    "an empty text": ("/other/embeddings", {"model": "m", "input": ["a", ""]}, 400, "invalid_request", "input"),
    "an empty document": ("/other/rerank", {"model": "m", "query": "q", "documents": [{"text": ""}]}, 400, "invalid_request", "documents"),
    "both of two": ("/other/explain", {"input": "x", "messages": SAY["messages"]}, 400, "invalid_request", None),
    "a body over the server's cap": ("/chat", b"x" * (2 << 20), 413, "request_too_large", None),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_body_is_told_by_its_field(site: str, http: aiohttp.ClientSession, name: str) -> None:
    path, body, status, code, param = WRONG[name]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(site + path, data=io.BytesIO(data)) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (status, code), error
    assert param is None or error["param"].startswith(param)


async def test_a_level_that_is_none_is_refused(site: str, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{site}/chat", json=SAY, headers={"x-ringfence-level": "cosmic"}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_level")
    for value in ("", ",", "public, cosmic"):
        async with http.post(f"{site}/chat", json=SAY, headers={"x-ringfence-level": value}) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_level")


TEXTS = {
    "embeddings": ({"model": "m", "input": "a"}, "embed", ["a"]), "classify": ({"input": ["a", "b"]}, "classify", ["a", "b"]),
    "rerank": ({"model": "m", "query": "q", "documents": ["a", {"text": "b"}]}, "rerank", ["q", "a", "b"]),
    "explain": ({"messages": SAY["messages"]}, "generate", ["ab"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
async def test_every_text_of_a_body_is_classified(site: str, http: aiohttp.ClientSession, kind: str) -> None:
    body, task, texts = TEXTS[kind]
    async with http.post(f"{site}/other/{kind}", json=body) as response:
        told = await response.json()
    assert (told["task"], told["texts"]) == (task, texts)


STATUSES = {
    "key": (401, "invalid_api_key"), "forbidden": (403, "forbidden"), "limit": (429, "rate_limit_exceeded"), "lost": (503, "nobody_knows"),
    "policy": (403, "policy_denied"), "coded": (502, "agent_lost"), "uncoded": (500, "odd"), "inside": (500, "internal_error"), "never": (503, "unavailable"),
    "large": (413, "request_too_large"), "badly": (400, "invalid_request"), "aiohttp": (405, "method_not_allowed"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATUSES)
async def test_errors_have_their_status_and_openais_form(site: str, http: aiohttp.ClientSession, name: str) -> None:
    async with http.get(f"{site}/fail/{name}") as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == STATUSES[name]
    assert error["request_id"] == response.headers["x-request-id"] and "secret" not in error["message"]
    assert REFUSED[-1] == (f"/fail/{name}", STATUSES[name][1]), "whoever counts refusals is told"
    if name == "limit":
        assert response.headers["retry-after"] == "3"
    if name == "never":
        assert response.headers["retry-after"] == "86400"
    if name == "policy":
        assert error["reasons"] == [{"rule": "r", "why": "why"}] and response.headers["x-ringfence-level"] == "restricted"


async def test_a_path_that_is_none_is_told_so(site: str, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{site}/nothing") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")
    async with http.put(f"{site}/chat") as response:
        assert (
            response.headers["allow"] == "POST"
            and (await response.json())["error"]["message"] == "PUT is not taken at '/chat': use POST."
        )
    assert of_aiohttp(web.HTTPNotModified()) is None


async def events(http: aiohttp.ClientSession, url: str) -> list[object]:
    async with http.get(url) as response:
        assert response.content_type == "text/event-stream"
        lines = [line[6:].strip() async for line in response.content if line.startswith(b"data: ")]
    return [line if line == b"[DONE]" else json.loads(line) for line in lines]


async def test_a_stream_has_openais_events(site: str, http: aiohttp.ClientSession) -> None:
    first, second, piece, *ends, usage, done = await events(http, f"{site}/stream")
    assert [event["choices"][0]["index"] for event in (first, second)] == [0, 1]  # type: ignore[index]
    assert piece["choices"][0]["delta"] == {"content": "hé?"}  # type: ignore[index]  # half a character is replaced
    assert piece["choices"][0]["logprobs"] == {"content": [{**SAID, "top_logprobs": [SAID]}]}  # type: ignore[index]
    assert [event["choices"][0]["finish_reason"] for event in ends] == ["stop", "length"]  # type: ignore[index]
    assert usage["usage"]["total_tokens"] == 7 and usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}  # type: ignore[index]
    assert done == b"[DONE]"


async def test_an_error_in_a_stream_is_an_event_and_nothing_follows(site: str, http: aiohttp.ClientSession) -> None:
    *_, last = await events(http, f"{site}/stream?fail=1")
    assert last["error"]["message"] == "in the middle"  # type: ignore[index]
    assert REFUSED[-1] == ("/stream", "nobody_knows")


def test_whole_answers() -> None:
    told = answers.completion("req_1", "m", [tasks.Answer("a", "stop"), tasks.Answer("b", "length", (SCORE,))], Usage(1, 2))
    sent = json.loads(answers.encoded(told))
    assert [choice["logprobs"] for choice in sent["choices"]] == [None, {"content": [{**SAID, "top_logprobs": [SAID]}]}]
    vectors = np.array([[1, 2], [3, 4]], dtype="<f4")
    result = tasks.Embedded(vectors.tobytes(), 2, (1,))
    plain = answers.embeddings(result, "m", "float", Usage(5))
    packed = answers.embeddings(result, "m", "base64", Usage(5))
    assert [row["embedding"] for row in plain["data"]] == [[1, 2], [3, 4]]  # type: ignore[attr-defined]
    assert ["truncated" in row for row in plain["data"]] == [False, True]  # type: ignore[attr-defined]
    assert base64.b64decode(packed["data"][1]["embedding"]) == vectors[1].tobytes()  # type: ignore[index]
    assert plain["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    body = bodies.RerankBody(model="m", query="q", documents=["a", "b", "c"], top_n=2)
    ranked = answers.ranking(tasks.Ranked((0.1, 0.9, 0.1)), body, Usage(1))
    assert [row["index"] for row in ranked["results"]] == [1, 0]  # type: ignore[attr-defined]
    assert answers.encoded({"a": "\ud83d"}) == b'{"a": "?"}'


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_a_bad_answer(number: float) -> None:
    result = tasks.Embedded(np.array([1, number], dtype="<f4").tobytes(), 2)
    for write in (
        lambda: answers.event({"a": [number]}),
        lambda: answers.encoded({"a": number}),
        lambda: answers.embeddings(result, "m", "float", Usage(1)),
        lambda: answers.embeddings(result, "m", "base64", Usage(1)),
    ):
        with pytest.raises(NoAnswer, match="not finite") as refused:
            write()
        assert (refused.value.code, codes.status_of(refused.value)) == ("bad_answer", 502)


async def test_a_client_that_reads_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        async def write(self, data: bytes) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(answers, "WRITE_TIMEOUT_S", 0.01)
    with pytest.raises(ConnectionResetError):
        await answers.write(Stuck(), b"x")  # type: ignore[arg-type]


def test_what_is_classified_is_what_is_sent() -> None:
    body = bodies.parse(bodies.ChatBody, {**SAY, "stop": "s", "model": "m"})
    ask = Ask(request=RequestId("r"), payload=body.payload(5), model=body.model)
    assert ask.texts == ("ab", "s") and ask.task == "generate" and ask.most_tokens == 5

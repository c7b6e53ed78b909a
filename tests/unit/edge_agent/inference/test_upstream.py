"""An OpenAI-compatible server as a deployment, against a real second server: what passes, what is tried again, where nothing goes."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.inference.manifest import Manifest
from edge_agent.inference.meters import InferenceMeters
from edge_agent.inference.port import BadPayload, ContextExceeded, Overloaded
from edge_agent.inference.upstream import breaker
from edge_agent.inference.upstream.breaker import Breaker
from edge_agent.inference.upstream.egress import Egress, EgressRefused
from edge_agent.inference.upstream.engine import Upstream, UpstreamFailed
from sync.kit import errors
from sync.kit.metrics import Registry
from sync.wire import tasks
from tests.support import asking
from tests.support.modelling import CALLER

LOOPBACK = "@127.0.0.0/8"


@dataclass
class Server:
    """A server that answers as it is told, and remembers what it was asked."""

    port: int = 0
    answers: list[Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=list)
    asked: list[dict[str, object]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append({**body, "key": request.headers.get("authorization", "")})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            return await answer(request)
        except asyncio.CancelledError:
            self.gone.set()
            raise


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server()
    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", made.handle), web.post("/v1/embeddings", made.handle)])
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


@pytest.fixture
async def connect(server: Server) -> AsyncIterator[Callable[..., Upstream]]:
    opened: list[Upstream] = []

    def make(*egress: str, task: str = "generate", url: str = "", **upstream: object) -> Upstream:
        told = {"url": url or f"http://127.0.0.1:{server.port}/v1", "model": "theirs", **upstream}
        manifest = Manifest(name="m", version="1", task=task, backend="upstream", files={}, upstream=told, queue=1, rows=2)
        rules = egress or (f"127.0.0.1:{server.port}{LOOPBACK}",)
        opened.append(Upstream(manifest, tuple(rules), InferenceMeters(Registry()).of("m")))
        return opened[-1]

    yield make
    for upstream in opened:
        await upstream.close()


def whole(text: str = "hello") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    return answer


def status(code: int, body: str = "", **headers: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def stream(
    *events: object, done: bool = True, wait: asyncio.Event | None = None
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        if wait is not None:
            await wait.wait()
        if done:
            await response.write(b"data: [DONE]\n\n")
        return response

    return answer


def piece(text: str, index: int = 0, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9}}


async def ask(engine: Upstream, emit=None, **fields: object):
    return await engine.run(asking.generate("hi", **fields), emit, CALLER)


async def test_a_whole_answer_with_its_usage_and_the_settings_that_were_asked_for(server: Server, connect, monkeypatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sk-theirs")
    server.answers = [whole()]
    result = await ask(connect(api_key_env="UPSTREAM_KEY"), top_k=4, seed=9, stop=("x",), response_format={"type": "json_object"})
    assert (result.text, result.finish, result.prompt_tokens, result.completion_tokens) == ("hello", "length", 7, 3)
    (asked,) = server.asked
    assert (asked["model"], asked["top_k"], asked["seed"], asked["stop"]) == ("theirs", 4, 9, ["x"])
    assert asked["key"] == "Bearer sk-theirs" and asked["response_format"] == {"type": "json_object"}


async def test_a_stream_is_passed_through_as_it_comes_and_its_usage_kept(server: Server, connect) -> None:
    more = asyncio.Event()
    server.answers = [stream(piece("he"), piece("llo", finish="stop"), piece("other", 1, "length"), USAGE, wait=more)]
    came = asyncio.Event()
    heard = asking.Heard(lambda _: came.set())
    task = asyncio.create_task(ask(connect(), heard, n=2))
    await came.wait()
    assert not task.done(), "the first piece is there before the server is done"
    more.set()
    result = await task
    assert [(p.text, p.choice) for p in heard.pieces] == [("he", 0), ("llo", 0), ("other", 1)]
    assert [(c.text, c.finish) for c in result.choices] == [("hello", "stop"), ("other", "length")]
    assert (result.prompt_tokens, result.completion_tokens) == (5, 9)


async def test_embeddings(server: Server, connect) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        rows = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]
        return web.json_response({"data": rows, "usage": {"prompt_tokens": 4}})

    server.answers = [answer]
    result = await connect(task="embed").run(tasks.Embed(("a", "b")), None, CALLER)
    assert np.array_equal(np.frombuffer(result.answer.vectors, "<f4").reshape(-1, 2), [[1, 0], [0, 1]])
    assert result.prompt_tokens == 4
    with pytest.raises(UpstreamFailed):
        await connect(task="embed").run(tasks.Embed(("a",)), None, CALLER)


# name: (answers in turn, what is raised, how often it was asked)
FAILURES = {
    "an overloaded server, which says when": ([status(429, retry_after="7")], Overloaded, 3),
    "a server that fails": ([status(500, "secret words")], UpstreamFailed, 3),
    "a key that is not taken": ([status(401)], errors.Misconfigured, 1),
    "a redirect, which is not followed": ([status(307, location="http://127.0.0.1:1/")], EgressRefused, 1),
    "a request that is refused": ([status(400, "secret words")], BadPayload, 1),
    "a prompt that is too long": ([status(400, '{"error": {"code": "context_length_exceeded"}}')], ContextExceeded, 1),
    "an answer that is no JSON": ([status(200, "<html>")], UpstreamFailed, 1),
    "an answer of another form": ([status(200, "[]")], UpstreamFailed, 1),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failures_are_told_apart_and_no_word_of_the_server_is_told(server: Server, connect, name: str) -> None:
    server.answers, kind, times = FAILURES[name][0][:], *FAILURES[name][1:]
    with pytest.raises(kind) as failed:
        await ask(connect())
    assert "secret" not in str(failed.value)
    assert len(server.asked) == times
    if kind is Overloaded:
        assert failed.value.retry_after_s == 7


async def test_what_fails_for_a_moment_is_tried_again(server: Server, connect) -> None:
    server.answers = [status(503), status(500), whole("at last")]
    assert (await ask(connect())).text == "at last"


BROKEN = {
    "it breaks off": stream(piece("he"), done=False),
    "it says an error": stream(piece("he"), {"error": {"message": "secret words"}}),
    "it sends what is no JSON": stream(piece("he"), [1, 2]),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_stream_that_breaks_is_not_begun_again(server: Server, connect, name: str) -> None:
    server.answers = [BROKEN[name]]
    heard = asking.Heard()
    with pytest.raises(UpstreamFailed):
        await ask(connect(), heard)
    assert [p.text for p in heard.pieces] == ["he"] and len(server.asked) == 1


async def test_a_cancel_reaches_the_server(server: Server, connect) -> None:
    server.answers = [stream(piece("he"), wait=asyncio.Event())]
    came = asyncio.Event()
    task = asyncio.create_task(ask(connect(), asking.Heard(lambda _: came.set())))
    await came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.gone.wait(), 10)


async def test_a_server_that_fails_again_and_again_is_left_alone(server: Server, connect) -> None:
    server.answers = [status(500)]
    engine = connect()
    for _ in range(breaker.FAILURES):
        with pytest.raises(UpstreamFailed):
            await ask(engine)
    asked = len(server.asked)
    with pytest.raises(UpstreamFailed, match="left alone"):
        await ask(engine)
    assert len(server.asked) == asked


def test_the_breaker_tries_one_request_after_a_pause_that_doubles() -> None:
    state = Breaker()
    for _ in range(breaker.FAILURES):
        assert state.wait_s(0.0) == 0
        state.failed(0.0)
    assert state.wait_s(0.5) == 0.5
    assert state.wait_s(1.5) == 0 and state.wait_s(1.5) > 0
    state.failed(1.5)
    assert state.wait_s(1.5) == 2
    assert state.wait_s(4.0) == 0
    state.gave_up()
    assert state.wait_s(4.0) == 0
    state.went_well()
    assert state.wait_s(4.0) == state.wait_s(4.0) == 0


EGRESS = {
    "a place that is not on the list": ((), "http://127.0.0.1:1/v1"),
    "another port": ((f"127.0.0.1:2{LOOPBACK}",), "http://127.0.0.1:1/v1"),
    "an address inside without its network": (("127.0.0.1:1",), "http://127.0.0.1:1/v1"),
    "an address outside its network": (("127.0.0.1:1@10.0.0.0/8",), "http://127.0.0.1:1/v1"),
    "a cloud's metadata": (("169.254.169.254:80",), "http://169.254.169.254/v1"),
    "an address in other clothes": (("[::ffff:127.0.0.1]:1",), "http://[::ffff:127.0.0.1]:1/v1"),
}


@pytest.mark.parametrize("name", EGRESS)
def test_nothing_goes_where_the_list_does_not_say(name: str) -> None:
    rules, url = EGRESS[name]
    with pytest.raises(EgressRefused):
        Egress(rules).check(url)


async def test_a_name_that_points_inside_is_refused_after_it_was_resolved(server: Server, connect) -> None:
    server.answers = [whole()]
    engine = connect(f"localhost:{server.port}", url=f"http://localhost:{server.port}/v1")
    with pytest.raises(EgressRefused, match="does not admit"):
        await ask(engine)
    assert server.asked == []
    admitted = connect(f"localhost:{server.port}{LOOPBACK}", url=f"http://localhost:{server.port}/v1")
    assert (await ask(admitted)).text == "hello"


@pytest.mark.parametrize("rule", ["nowhere", "host:port", "host:1@banana"])
def test_a_rule_that_is_none_is_said(rule: str) -> None:
    with pytest.raises(errors.Misconfigured, match="no rule"):
        Egress([rule])


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, connect) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    import datetime

    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = tmp_path / "server.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", whole())])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    port = runner.addresses[0][1]
    try:
        with pytest.raises(UpstreamFailed, match="certificate"):
            await ask(connect(f"127.0.0.1:{port}{LOOPBACK}", url=f"https://127.0.0.1:{port}/v1"))
    finally:
        await runner.cleanup()

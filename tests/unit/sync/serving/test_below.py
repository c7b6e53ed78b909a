"""What is refused below the handlers, or before a body is read, over real sockets: bytes that are not HTTP, compressed bodies."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator

import openai
import pytest
import structlog
from aiohttp import web

from sync.policy.authenticate import InvalidKey
from sync.serving.api import bodies
from sync.serving.api.server import Server

HOST = b"host: x\r\n"
CHUNKED = b"POST /read HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture
def reading() -> asyncio.Event:
    """Set once a handler reads a body."""
    return asyncio.Event()


@pytest.fixture
async def port(reading: asyncio.Event) -> AsyncIterator[int]:
    async def read(request: web.Request) -> web.StreamResponse:
        reading.set()
        return web.json_response({"read": len(await bodies.raw_body(request, 1 << 20))})

    async def locked(request: web.Request) -> web.StreamResponse:
        raise InvalidKey("no key")

    def fails(request: web.Request, error: Exception) -> None:
        if request is not None:
            raise ZeroDivisionError("the hook fails, and the client gets its answer")

    server = Server([web.post("/read", read), web.post("/locked", locked)], option="--port", max_body=1 << 20, on_refused=fails)
    yield await server.start("127.0.0.1", 0)
    await server.stop()


async def spoken(port: int, *pieces: bytes, after: asyncio.Event | None = None) -> tuple[int, dict[str, str], bytes]:
    """Return the status, headers and body of the answer, read until the server closes its side.

    after: what has to happen before the second piece is sent.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        if after is not None:
            await asyncio.wait_for(after.wait(), 3)
    async with asyncio.timeout(3):
        data = await reader.read()
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), fields, body


BROKEN: dict[str, tuple[tuple[bytes, ...], int, str]] = {
    "no HTTP": ((b"\x00\x01garbage\r\n\r\n",), 400, "invalid_http"),
    "TLS": ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",), 400, "invalid_http"),
    "no host": ((b"GET / HTTP/1.1\r\n\r\n",), 400, "invalid_http"),
    "another version": ((b"GET / HTTP/3.9\r\n" + HOST + b"\r\n",), 400, "invalid_http"),
    "two lengths": ((b"POST /read HTTP/1.1\r\n" + HOST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",), 400, "invalid_http"),
    "a long header": ((b"GET / HTTP/1.1\r\n" + HOST + b"a: " + b"x" * 9000 + b"\r\n\r\n",), 431, "headers_too_large"),
    "a long line": ((b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",), 431, "headers_too_large"),
    "many headers": ((b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"a%d: x\r\n" % i for i in range(200)) + b"\r\n",), 431, "headers_too_large"),
    "a bad chunk": ((CHUNKED + b"zz\r\n",), 400, "invalid_http"),
    "another expectation": ((b"POST /read HTTP/1.1\r\n" + HOST + b"expect: cake\r\ncontent-length: 0\r\n\r\n",), 400, "invalid_request"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_not_a_request_is_answered_like_any_other(port: int, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """With OpenAI's error object and an id, and one line in the log that has no traceback and nothing of the request."""
    pieces, status, code = BROKEN[name]
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as lines:
        answered, fields, body = await spoken(port, *pieces)
    error = json.loads(body)["error"]
    assert (answered, error["code"]) == (status, code)
    assert error["request_id"] == fields["x-request-id"] == lines[0]["request"]
    assert fields["server"] == "ringfence" and fields["content-type"].startswith("application/json")
    assert "aiohttp" not in str(fields).lower() and "python" not in str(fields).lower()
    assert [line["event"] for line in lines] == ["refused_below"] and "exc_info" not in lines[0]
    assert set(lines[0]) <= {"component", "event", "log_level", "request", "status", "code", "reason"}
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


async def test_a_chunk_that_breaks_while_the_body_is_read_is_told_at_once(port: int, reading: asyncio.Event) -> None:
    began = time.monotonic()
    status, fields, body = await spoken(port, CHUNKED + b"3\r\nabc\r\n", b"zz\r\n", after=reading)
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_http"), "and no second answer follows"
    assert time.monotonic() - began < 2 and fields["connection"] == "close"


ENCODINGS = ["gzip", "deflate", "br", "zstd", "x-gzip", "identity, gzip", "a\tb"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", ["/read", "/locked", "/nothing"])
async def test_what_is_compressed_is_refused_before_its_body(port: int, encoding: str, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-encoding: {encoding}\r\ncontent-length: 1000000\r\n\r\n"
    status, fields, body = await spoken(port, head.encode())
    error = json.loads(body)["error"]
    assert (status, error["code"], fields["connection"]) == (415, "unsupported_encoding", "close")


async def test_identity_is_no_encoding(port: int) -> None:
    head = b"POST /read HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: Identity\r\ncontent-length: 3\r\n\r\nabc"
    assert (await spoken(port, head))[0] == 200


async def test_nothing_is_inflated_for_whoever_has_no_key(port: int) -> None:
    """A small body that expands to 128 MiB costs the loop nothing."""
    bomb = gzip.compress(bytes(1 << 27), 6)
    head = f"POST /locked HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: {len(bomb)}\r\n\r\n".encode()
    began = time.process_time()
    for _ in range(4):
        assert (await spoken(port, head + bomb))[0] == 415
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("path", ["/locked", "/read"])
async def test_a_refused_body_is_dropped_and_the_connection_ends(port: int, path: str) -> None:
    """The server ends its side at once, though most of the body is still to come, and takes nothing after it."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n".encode()
    began = time.monotonic()
    status, fields, _ = await spoken(port, head, b"x" * 1000, b"GET /locked HTTP/1.1\r\nhost: x\r\n\r\n")
    assert status == (401 if path == "/locked" else 413) and fields["connection"] == "close"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("size", [2 << 20, 16 << 20])
async def test_a_client_that_is_still_sending_gets_its_413(port: int, size: int) -> None:
    """A connection that is reset would be an error of the client's own."""
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}", api_key="k", max_retries=0) as app:
        for _ in range(5):
            with pytest.raises(openai.APIStatusError) as refused:
                await app.post("/read", body={"a": "x" * size}, cast_to=object)
            assert refused.value.status_code == 413


async def test_a_small_refused_request_does_not_wait(port: int) -> None:
    head = b"POST /locked HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
    began = time.monotonic()
    assert (await spoken(port, head))[0] == 401
    assert time.monotonic() - began < 1

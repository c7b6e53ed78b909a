"""The bare path: an HTTP server that forwards each body by a NATS request to a bare responder. What the gateway is held against.
And the least that moves records: envelopes into JetStream, rows in bulk into SQLite. What catching up is held against.

python bare.py server NATS_URL PORT
python bare.py responder NATS_URL
python bare.py publisher NATS_URL RECORDS BYTES
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from pathlib import Path

import msgpack
import nats
import uvloop
from aiohttp import web

ANSWER = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok "}, "finish_reason": "stop"}]}'


async def server(url: str, port: int) -> None:
    client = await nats.connect(url)

    async def forward(request: web.Request) -> web.Response:
        reply = await client.request("bare", await request.read(), timeout=30)
        return web.Response(body=reply.data, content_type="application/json")

    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", forward)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def responder(url: str) -> None:
    client = await nats.connect(url)

    async def answer(message: nats.aio.msg.Msg) -> None:
        await message.respond(ANSWER)

    await client.subscribe("bare", cb=answer)
    await asyncio.Event().wait()


ENVELOPE, IN_FLIGHT, FETCH = 100, 8, 32


async def publisher(url: str, records: int, size: int) -> None:
    stream = (await nats.connect(url)).jetstream()
    await stream.add_stream(name="bare", subjects=["bare.records"])
    data = msgpack.packb([b"x" * size] * ENVELOPE)
    places = asyncio.Semaphore(IN_FLIGHT)

    async def publish() -> None:
        async with places:
            await stream.publish("bare.records", data, timeout=30)

    await asyncio.gather(*(publish() for _ in range(0, records, ENVELOPE)))


async def insert_all(url: str, path: Path, records: int) -> float:
    """Records a second from the stream into a table."""
    stream = (await nats.connect(url)).jetstream()
    while True:
        try:
            subscription = await stream.pull_subscribe("bare.records", durable="bare", stream="bare")
            break
        except nats.js.errors.NotFoundError:
            await asyncio.sleep(0.05)
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table records (n integer primary key, entry blob)")
    done, began = 0, time.perf_counter()
    while done < records:
        messages = await subscription.fetch(FETCH, timeout=10)
        rows = [(entry,) for message in messages for entry in msgpack.unpackb(message.data)]
        await asyncio.to_thread(_insert, database, rows)
        for message in messages:
            await message.ack()
        done += len(rows)
    rate = done / (time.perf_counter() - began)
    database.close()
    return rate


def _insert(database: sqlite3.Connection, rows: list[tuple[bytes]]) -> None:
    with database:
        database.executemany("insert into records (entry) values (?)", rows)


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    parts = {"server": server, "responder": responder, "publisher": publisher}
    uvloop.run(parts[what](where, *map(int, rest)))

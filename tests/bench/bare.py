"""The bare path: an HTTP server that forwards each body by a NATS request to a bare responder. What the gateway is held against.

python bare.py server NATS_URL PORT
python bare.py responder NATS_URL
"""

from __future__ import annotations

import asyncio
import sys

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


if __name__ == "__main__":
    uvloop.run(server(sys.argv[2], int(sys.argv[3])) if sys.argv[1] == "server" else responder(sys.argv[2]))

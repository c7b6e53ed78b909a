"""One connection of an agent, opened in the middle: with the hub's own certificate one way and the agent's the other way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHUNK = 65_536


@dataclass(frozen=True)
class Keys:
    """The files that only who holds both machines has."""

    server: Path
    agent: Path
    trusted: Path


def run(client: socket.socket, target: int, keys: Keys, change: Callable[[bytes], bytes]) -> None:
    """Passes everything on until one side ends; what goes out by `change`."""
    with contextlib.suppress(OSError):
        asyncio.run(_run(client, target, keys, change))


async def _run(client: socket.socket, target: int, keys: Keys, change: Callable[[bytes], bytes]) -> None:
    loop = asyncio.get_running_loop()
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(keys.server)
    outside = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outside.load_cert_chain(keys.agent)
    outside.load_verify_locations(keys.trusted)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=inside)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    there, back = await asyncio.open_connection("127.0.0.1", target, ssl=outside)
    ways = [asyncio.create_task(_pump(reader, back, change)), asyncio.create_task(_pump(there, writer, lambda data: data))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    for end in (writer, back):
        end.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(end.wait_closed(), 1)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, change: Callable[[bytes], bytes]) -> None:
    while data := await source.read(CHUNK):
        target.write(change(data))
        await target.drain()

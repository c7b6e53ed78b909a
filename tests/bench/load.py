"""The load generator: so many keep-alive connections, one request at a time on each, a bounded number in all.

python load.py PORT KEY CONCURRENCY REQUESTS [fresh]      each prompt another, with `fresh`; prints {"rate", "p50_ms", "p99_ms", "failed"}
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import uvloop

BODY = json.dumps(
    {"model": "quick", "messages": [{"role": "user", "content": "What is the policy for prompts like this one? " * 8 + "00000000"}]}
).encode()
COUNTER = b"00000000"
FRESH = sys.argv[5:] == ["fresh"]


async def connection(port: int, head: bytes, left: list[int], took: list[float], failed: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while left[0] > 0:
        left[0] -= 1
        began = time.perf_counter()
        writer.write(head + (BODY.replace(COUNTER, b"%04d%04d" % (os.getpid() % 10_000, left[0] % 10_000)) if FRESH else BODY))
        answer = await reader.readuntil(b"\r\n\r\n")
        lower = answer.lower()
        at = lower.index(b"content-length:") + 15
        await reader.readexactly(int(lower[at : lower.index(b"\r\n", at)]))
        took.append(time.perf_counter() - began)
        failed[0] += not answer.startswith(b"HTTP/1.1 200")
    writer.close()


async def main(port: int, key: str, concurrency: int, requests: int) -> None:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    ).encode()
    left, took, failed = [requests], [], [0]
    began = time.perf_counter()
    await asyncio.gather(*(connection(port, head, left, took, failed) for _ in range(concurrency)))
    spent = time.perf_counter() - began
    took.sort()
    told = {
        "rate": len(took) / spent,
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[int(len(took) * 0.99)] * 1000,
        "failed": failed[0],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))

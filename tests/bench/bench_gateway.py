"""A request that computes nothing, client → hub → NATS → agent and back, against the bare path, interleaved."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from bench import Row, at_least, at_most
from plain import PlainServer

from tests.support import running as support
from tests.support import system

HERE = Path(__file__).parent
ROUNDS = 5
REQUESTS = {1: 400, 64: 4000}


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        broker = PlainServer(Path(folder) / "bare")
        broker.start()
        running = asyncio.run(support.start(Path(folder) / "ours", support.ONPREM, tenant="bench"))
        bare_port = system.free_port()
        url = broker.url
        bare = [
            subprocess.Popen([sys.executable, HERE / "bare.py", "responder", url]),
            subprocess.Popen([sys.executable, HERE / "bare.py", "server", url, str(bare_port)], stderr=subprocess.DEVNULL),
        ]
        try:
            support.eventually(lambda: _answers(bare_port), "the bare path is up")
            ours_port = int(running.url.rsplit(":", 1)[1])
            return [row for concurrency in REQUESTS for row in _compare(ours_port, bare_port, running.api_key, concurrency)]
        finally:
            for process in bare:
                process.terminate()
                process.wait()
            running.stop_all()
            broker.stop()


def _compare(ours_port: int, bare_port: int, key: str, concurrency: int) -> list[Row]:
    ours, bare, fresh = [], [], []
    for _ in range(ROUNDS):
        ours.append(_load(ours_port, key, concurrency))
        bare.append(_load(bare_port, key, concurrency))
        fresh.append(_load(ours_port, key, concurrency, "fresh"))

    def middle(rounds: list[dict[str, float]], what: str) -> float:
        return statistics.median(told[what] for told in rounds)

    name = f"gateway, {concurrency} at a time"
    share = 0.35 if concurrency == 64 else None
    return [
        at_least(f"{name} (limit: the bare path)", middle(ours, "rate"), "requests/s", middle(bare, "rate"), share),
        at_least(f"{name}, each prompt new to the classifier's model", middle(fresh, "rate"), "requests/s", middle(bare, "rate")),
        at_most(f"{name}, p50", middle(ours, "p50_ms"), "ms", middle(bare, "p50_ms")),
        at_most(f"{name}, p99", middle(ours, "p99_ms"), "ms", middle(bare, "p99_ms")),
    ]


def _load(port: int, key: str, concurrency: int, *how: str) -> dict[str, float]:
    command = [sys.executable, HERE / "load.py", str(port), key, str(concurrency), str(REQUESTS[concurrency]), *how]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if told["failed"]:
        raise SystemExit(f"{told['failed']} requests failed: the figures would mean nothing")
    return told


def _answers(port: int) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", data=b"{}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False

"""Streamed tokens a second through hub and agent, against the same engine called in this process, interleaved.

The model is guide with its end token taken away, so that every run is of the same length: the figure is about tokens, not answers.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from bench import Row, at_least, at_most

from edge_agent.inference import repository
from tests.support import running as support

ROUNDS, RUNS, TOKENS = 5, 4, 500
NAME = "endless"


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        shutil.copytree(support.BUILT / "guide" / "1", source)
        (source / "manifest.json").unlink()
        config = json.loads((source / "genai_config.json").read_text())
        config["model"]["eos_token_id"] = []
        (source / "genai_config.json").write_text(json.dumps(config))
        models = support.models(Path(folder) / "models")
        repository.add(models, source, name=NAME, version="1", task="generate", temperature=0.0)
        running = asyncio.run(support.start(Path(folder), support.ONPREM, tenant="bench", models_folder=models))
        try:
            return asyncio.run(_compare(running, models))
        finally:
            running.stop_all()


async def _compare(running, models: Path) -> list[Row]:
    found = repository.Repository(models, threads=1)
    found.scan()
    engine = (await found.get(NAME)).engine
    ours, limits, firsts, first_limits = [], [], [], []
    await _in_process(engine)
    await asyncio.to_thread(_streamed, running)
    for _ in range(ROUNDS):
        rate, first = await _in_process(engine)
        limits.append(rate)
        first_limits.append(first)
        rate, first = await asyncio.to_thread(_streamed, running)
        ours.append(rate)
        firsts.append(first)
    found.close()
    return [
        at_least(
            "streamed tokens over HTTP (limit: the engine in process)",
            statistics.median(ours),
            "tokens/s",
            statistics.median(limits),
            0.85,
        ),
        at_most(
            "time to the first token over HTTP (limit: the same)", statistics.median(firsts), "ms", statistics.median(first_limits)
        ),
    ]


async def _in_process(engine) -> tuple[float, float]:
    tokens, firsts, began = 0, [], time.perf_counter()
    for seed in range(RUNS):
        start, seen = time.perf_counter(), []
        payload = {
            "messages": ({"role": "user", "content": "Tell me everything."},), "max_tokens": TOKENS, "temperature": 0.0,
            "top_p": None, "seed": seed, "stop": (),
        }  # fmt: skip
        result = await engine.run(payload, lambda _, start=start, seen=seen: seen.append(time.perf_counter() - start))
        tokens += result.completion_tokens
        firsts.append(seen[0] * 1000)
    return tokens / (time.perf_counter() - began), statistics.median(firsts)


def _streamed(running) -> tuple[float, float]:
    tokens, firsts = 0, []
    with support.client(running) as app:
        began = time.perf_counter()
        for seed in range(RUNS):
            start, first = time.perf_counter(), 0.0
            stream = app.chat.completions.create(
                model=NAME, messages=[{"role": "user", "content": "Tell me everything."}], max_tokens=TOKENS,
                seed=seed, stream=True, stream_options={"include_usage": True}, extra_headers={"cache-control": "no-store"},
            )  # fmt: skip
            for event in stream:
                first = first or time.perf_counter() - start
                tokens += event.usage.completion_tokens if event.usage else 0
            firsts.append(first * 1000)
        spent = time.perf_counter() - began
    return tokens / spent, statistics.median(firsts)

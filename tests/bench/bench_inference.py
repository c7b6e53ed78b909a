"""Inference at the agent, each figure beside its limit or a peer in the same run, interleaved.

`make bench-models` builds what the figures of text generation are of: a model of Qwen2.5-0.5B's shape and one of 4 million parameters,
both with random weights in int4. Without them, only what needs no more than the repository's own models is measured.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import aiohttp
import numpy as np
from bench import HERE, ROOT, Row, at_least

from edge_agent.inference.opening import Resources
from edge_agent.inference.port import Caller
from sync.kit import logs, process
from sync.wire import tasks
from tests.support import asking, modelling, running, system

BUILT = ROOT / ".bench-models"
LLAMA = ROOT / ".bench-models" / "llama" / "bin" / "python"
THREADS = 2
ROUNDS, PROMPT, NEW, STREAMS = 5, 128, 64, 4
ENDLESS = {"2": -100}
WORDS = ("import", "def", "self", "return", "class", "for", "while", "raise", "value", "None")
CALLER = Caller("bench")


def measure() -> list[Row]:
    logs.configure(level="error")
    sys.setswitchinterval(process.SWITCH_S)  # as an agent does
    rows = asyncio.run(_embeddings())
    rows += [_cycles()]
    if not (BUILT / "qwen05").is_dir():
        return [*rows, Row("text generation: run 'make bench-models' first", 0, "")]
    return [*rows, *asyncio.run(_in_process()), *asyncio.run(_over_http())]


# --- embeddings


async def _embeddings() -> list[Row]:
    """Callers with one text at a time each, against a bare session with two threads of one caller each over the same texts."""
    rows = []
    sources = {"the demonstration's encoder, 0.7 ms a text": running.BUILT / "guide-embed" / "1"}
    if (BUILT / "encoder").is_dir():
        sources["an encoder of MiniLM's shape"] = BUILT / "encoder"
    with tempfile.TemporaryDirectory() as folder:
        for number, (what, source) in enumerate(sources.items()):
            models = Path(folder) / str(number)
            modelling.copied(models, source, task="embed", max_tokens=128)
            found = modelling.repository(models, resources=Resources(threads=2))
            texts = [" ".join(WORDS[(n + k) % len(WORDS)] for k in range(20)) for n in range(400)]
            async with found.lease("m") as model:
                for callers in (2, 8):
                    ours, limits = [], []
                    for _ in range(ROUNDS + 1):
                        limits.append(await asyncio.to_thread(_bare_embeddings, models / "m" / "1", texts))
                        ours.append(await _embedded(model.engine, texts, callers))
                    name = f"embeddings, {callers} callers: {what} (limit: bare session)"
                    rows.append(at_least(name, statistics.median(ours[1:]), "texts/s", statistics.median(limits[1:]), 0.9))
            await found.close()
    return rows


async def _embedded(engine, texts: list[str], callers: int) -> float:
    async def caller(mine: list[str]) -> None:
        for text in mine:
            await engine.run(tasks.Embed((text,)), None, CALLER)

    began = time.perf_counter()
    await asyncio.gather(*(caller(texts[i::callers]) for i in range(callers)))
    return len(texts) / (time.perf_counter() - began)


def _bare_embeddings(folder: Path, texts: list[str]) -> float:
    import onnxruntime as ort
    from tokenizers import Tokenizer

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    names = {node.name for node in session.get_inputs()}

    def caller(mine: list[str]) -> None:
        for text in mine:
            ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
            feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            session.run(None, {name: array for name, array in feeds.items() if name in names})

    threads = [threading.Thread(target=caller, args=(part,)) for part in (texts[::2], texts[1::2])]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(texts) / (time.perf_counter() - began)


# --- loading and evicting


def _cycles() -> Row:
    """A thousand loads and evictions in a process of their own: what it holds after the last hundred, against after the first."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        early, late = pool.apply(_cycled)
    return Row(
        "1,000 loads and evictions: memory at the end (limit: after 100)",
        late,
        "MiB",
        early,
        late / early,
        "± 5 %",
        late <= early * 1.05,
    )


def _cycled() -> tuple[float, float]:
    logs.configure(level="error")

    async def cycle() -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            modelling.copied(Path(folder), modelling.DECODERS / "llama-int4")
            found = modelling.repository(Path(folder))
            sizes = []
            for n in range(1, 1001):
                async with found.lease("m") as model:
                    await model.engine.run(asking.generate(f"{n}", max_tokens=4, temperature=None), None, CALLER)
                await found.evict("m")
                if n % 100 == 0:
                    sizes.append(_resident())
            await found.close()
            return sizes[0], sizes[-1]

    return asyncio.run(cycle())


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- generation, in this process


def _peer(*arguments: object, python: Path | str = sys.executable) -> dict[str, float]:
    done = subprocess.run([python, HERE / "peers.py", *map(str, arguments)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _text(tokens: int, seed: int) -> str:
    """About so many tokens of the chat's prompt."""
    rng = np.random.default_rng(seed)
    return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), max(1, tokens - 10)))


def _payload(tokens: int, new: int, seed: int, **fields: object) -> tasks.Request:
    return asking.generate(_text(tokens, seed), max_tokens=new, **fields)


async def _stream(engine, payload: tasks.Request) -> tuple[object, float, float]:
    """The result, milliseconds to the first piece, and from there on for each token."""
    began, seen = time.perf_counter(), []
    result = await engine.run(payload, asking.Heard(lambda _: seen.append(time.perf_counter())), CALLER)
    ended = time.perf_counter()
    first = seen[0] if seen else ended
    return result, (first - began) * 1000, (ended - first) * 1000 / max(1, result.completion_tokens - 1)


async def _in_process() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        modelling.copied(models, BUILT / "qwen05", prefill_tokens=256)
        found = modelling.repository(models, resources=Resources(threads=THREADS))
        async with found.lease("m") as model:
            engine = model.engine
            rows = [
                *await _one_stream(engine),
                *await _arrival(engine),
                *await _lateness_and_cancel(engine),
                await _second_turn(engine),
            ]
        await found.close()
    return rows


async def _one_stream(engine) -> list[Row]:
    ours, firsts, limits, first_limits, llamas, llama_firsts = [], [], [], [], [], []
    gguf = BUILT / "qwen05.gguf"
    for n in range(ROUNDS):
        peer = await asyncio.to_thread(_peer, "single", BUILT / "qwen05", THREADS, PROMPT, NEW)
        limits.append(peer["each_ms"])
        first_limits.append(peer["first_ms"])
        own = [await _stream(engine, _payload(PROMPT, NEW, 100 + 3 * n + k)) for k in range(3)]
        ours.append(statistics.median(each for _, _, each in own))
        firsts.append(statistics.median(first for _, first, _ in own))
        if LLAMA.exists() and gguf.exists():
            peer = await asyncio.to_thread(_peer, "llama", gguf, THREADS, PROMPT, NEW, python=LLAMA)
            llamas.append(peer["each_ms"])
            llama_firsts.append(peer["first_ms"])
    each, limit = statistics.median(ours), statistics.median(limits)
    # Of pairs that follow each other: the machine is half as fast from one minute to the next.
    ratio = statistics.median(own / peer for own, peer in zip(ours, limits, strict=True))
    rows = [
        Row(
            "one stream, a token (limit: genai's generator)",
            each,
            "ms",
            limit,
            ratio,
            "≤ 1.05 of the limit",
            ratio <= 1.05,
        ),
        Row("one stream, first token (limit: the same)", statistics.median(firsts), "ms", statistics.median(first_limits)),
    ]
    if llamas:
        rows.append(
            Row(
                "one stream, a token (beside: llama.cpp, Q4_0)",
                each,
                "ms",
                statistics.median(llamas),
                each / statistics.median(llamas),
            )
        )
        first = statistics.median(firsts)
        rows.append(
            Row(
                "one stream, first token (beside: llama.cpp)",
                first,
                "ms",
                statistics.median(llama_firsts),
                first / statistics.median(llama_firsts),
            )
        )
    return rows


async def _arrival(engine) -> list[Row]:
    """A request comes while three others are in the middle of their answers: its own prompt, and one step."""
    figures, limits = [], []
    for n in range(ROUNDS):
        _, alone, step = await _stream(engine, _payload(PROMPT, 8, 300 + n))
        others = [asyncio.create_task(_stream(engine, _payload(16, 200, 310 + 3 * n + k))) for k in range(3)]
        while engine.running < 3 or any(row.length < 40 for row in engine._batcher._rows) or len(engine._batcher._rows) < 3:
            await asyncio.sleep(0.005)
        _, first, _ = await _stream(engine, _payload(PROMPT, 2, 350 + n))
        figures.append(first)
        limits.append(alone + 2 * step)
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    figure, limit = statistics.median(figures), statistics.median(limits)
    return [
        Row(
            "arriving in mid-batch: first token (limit: its own prompt + one step of three rows, taken as two of one)",
            figure,
            "ms",
            limit,
            figure / limit,
            "≤ 1.15 of the limit",
            figure <= 1.15 * limit,
        )
    ]


async def _lateness_and_cancel(engine) -> list[Row]:
    late: list[float] = []
    running_ = True

    async def tick() -> None:
        while running_:
            began = time.perf_counter()
            await asyncio.sleep(0.002)
            late.append((time.perf_counter() - began - 0.002) * 1000)

    ticking = asyncio.create_task(tick())
    await _stream(engine, _payload(512, 1, 400))
    running_ = False
    await ticking
    freed = []
    for n in range(5):
        task = asyncio.create_task(_stream(engine, _payload(512, 4, 410 + n)))
        await asyncio.sleep(0.3 + 0.07 * n)
        began = time.perf_counter()
        task.cancel()
        while engine.running:
            await asyncio.sleep(0.0005)
        freed.append((time.perf_counter() - began) * 1000)
    late.sort()
    p95 = late[int(len(late) * 0.95)]
    return [
        Row("event loop late while 512 tokens are prefilled, p95", p95, "ms", target="≤ 5 ms", met=p95 <= 5),
        Row("cancel in mid-prefill: row free after (worst of 5)", max(freed), "ms", target="≤ 50 ms", met=max(freed) <= 50),
    ]


async def _second_turn(engine) -> Row:
    shares = []
    for n in range(ROUNDS):
        messages = [{"role": "user", "content": _text(512, 500 + n)}]
        result, first, _ = await _stream(engine, {"messages": tuple(messages), "max_tokens": 16, "temperature": 0.0})
        messages += [{"role": "assistant", "content": result.text}, {"role": "user", "content": "and then?"}]
        _, second, _ = await _stream(engine, {"messages": tuple(messages), "max_tokens": 16, "temperature": 0.0})
        shares.append((second, first))
    second, first = sorted(shares, key=lambda pair: pair[0] / pair[1])[len(shares) // 2]
    return Row(
        "second turn of 512 tokens: first token (limit: the first turn's)",
        second,
        "ms",
        first,
        second / first,
        "≤ 15 % of the first",
        second <= 0.15 * first,
    )


# --- generation, over HTTP and server-sent events


async def _over_http() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        shutil.copytree(running.BUILT, models)
        for name, source in (("endless", "qwen05"), ("quick", "tiny")):
            modelling.copied(models, BUILT / source, name=name, temperature=0.0)
        place = system.Place("frankfurt-onprem", "on_premise", "frankfurt", True, THREADS)
        made = await running.start(Path(folder), place, tenant="bench", models_folder=models)
        try:
            url = await asyncio.to_thread(running.eventually, lambda: _address(made), "the site's API is up")
            return [*await _four_streams(url, made.api_key), await _sixteen_streams(url, made.api_key)]
        finally:
            made.stop_all()


def _address(made: system.System) -> str:
    path = made.agent("frankfurt-onprem") / "status.json"
    return json.loads(path.read_text()).get("url", "") if path.exists() else ""


async def _four_streams(url: str, key: str) -> list[Row]:
    ours, limits, turns = [], [], []
    await _streamed(url, key, "endless", 1, 16, 4, 0)
    for n in range(ROUNDS):
        limits.append((await asyncio.to_thread(_peer, "bare", BUILT / "qwen05", THREADS, PROMPT, NEW, STREAMS))["rate"])
        ours.append(await _streamed(url, key, "endless", STREAMS, PROMPT, NEW, 1000 * (n + 1)))
        turns.append((await asyncio.to_thread(_peer, "turns", BUILT / "qwen05", THREADS, PROMPT, NEW, STREAMS))["rate"])
    ours_, limit, turn = map(statistics.median, (ours, limits, turns))
    return [
        at_least("4 streams over HTTP, prompts included (limit: bare batching loop)", ours_, "tokens/s", limit, 0.9),
        Row(
            "4 streams over HTTP (beside: genai's generators in turn)",
            ours_,
            "tokens/s",
            turn,
            ours_ / turn,
            "≥ 2 × the peer",
            ours_ >= 2 * turn,
        ),
        Row("the bare batching loop itself (beside: genai's generators in turn)", limit, "tokens/s", turn, limit / turn),
    ]


async def _sixteen_streams(url: str, key: str) -> Row:
    await _streamed(url, key, "quick", 4, 32, 64, 0)
    rates = [await _streamed(url, key, "quick", 16, 32, 400, 100 * (n + 1)) for n in range(ROUNDS)]
    figure = statistics.median(rates)
    return Row("tiny model, 16 streams over HTTP", figure, "tokens/s", target="≥ 3,000", met=figure >= 3000)


async def _streamed(url: str, key: str, model: str, streams: int, prompt: int, new: int, seed: int) -> float:
    """Tokens a second in all, by the usage that each stream ends with."""

    async def one(http: aiohttp.ClientSession, number: int) -> int:
        body = {
            "model": model, "messages": [{"role": "user", "content": _text(prompt, seed + number)}], "max_tokens": new, "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True}, "logit_bias": {} if model == "endless" else ENDLESS,
        }  # fmt: skip
        headers = {"authorization": f"Bearer {key}", "cache-control": "no-store"}
        last = b""
        async with http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
            response.raise_for_status()
            async for line in response.content:
                if b'"usage": {' in line:
                    last = line
        return int(json.loads(last.removeprefix(b"data: "))["usage"]["completion_tokens"])

    async with aiohttp.ClientSession() as http:
        began = time.perf_counter()
        made = sum(await asyncio.gather(*(one(http, number) for number in range(streams))))
        return made / (time.perf_counter() - began)

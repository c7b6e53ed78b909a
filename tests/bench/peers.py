"""What text generation is held against, each in a process of its own. Prints one line of JSON.

python peers.py single FOLDER THREADS PROMPT NEW           onnxruntime-genai's generator: {"first_ms", "each_ms"}
python peers.py turns FOLDER THREADS PROMPT NEW STREAMS    as many of them, a token each in turn: {"rate", "firsts_ms"}
python peers.py bare FOLDER THREADS PROMPT NEW STREAMS     a batching loop over onnxruntime and nothing else: {"rate", "firsts_ms", "step_ms"}
python peers.py llama FILE THREADS PROMPT NEW              llama.cpp: {"first_ms", "each_ms"}
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np

HIGHEST = 3000
"""Token ids of prompts are below: every tokenizer here has them."""


def prompts(size: int, count: int) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(10, HIGHEST, size).astype(np.int32) for i in range(count)]


def _genai(folder: str, threads: int):
    import onnxruntime_genai as og

    config = og.Config(folder)
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    return og, og.Model(config)


def _generator(og, model, size: int, new: int):
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=size + new, min_length=size + new, do_sample=False)
    return og.Generator(model, params)


def single(folder: str, threads: int, size: int, new: int) -> dict[str, object]:
    og, model = _genai(folder, threads)
    firsts, each = [], []
    for ids in prompts(size, 3):
        generator, began = _generator(og, model, size, new), time.perf_counter()
        generator.append_tokens(ids)
        generator.generate_next_token()
        first = time.perf_counter()
        while not generator.is_done():
            generator.generate_next_token()
        firsts.append((first - began) * 1000)
        each.append((time.perf_counter() - first) * 1000 / (new - 1))
    return {"first_ms": statistics.median(firsts), "each_ms": statistics.median(each)}


def turns(folder: str, threads: int, size: int, new: int, streams: int) -> dict[str, object]:
    og, model = _genai(folder, threads)
    _generator(og, model, size, new).append_tokens(prompts(size, 1)[0])
    began, open_, firsts = time.perf_counter(), [], []
    for ids in prompts(size, streams):
        generator = _generator(og, model, size, new)
        generator.append_tokens(ids)
        generator.generate_next_token()
        firsts.append((time.perf_counter() - began) * 1000)
        open_.append(generator)
    while left := [generator for generator in open_ if not generator.is_done()]:
        for generator in left:
            generator.generate_next_token()
    return {"rate": streams * new / (time.perf_counter() - began), "firsts_ms": firsts}


def bare(folder: str, threads: int, size: int, new: int, streams: int) -> dict[str, object]:
    import onnxruntime as ort

    told = json.loads(Path(folder, "genai_config.json").read_text())["model"]["decoder"]
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(f"{folder}/{told['filename']}", options, providers=["CPUExecutionProvider"])
    layers, heads, width = told["num_hidden_layers"], told["num_key_value_heads"], told["head_size"]
    cache = [np.zeros((streams, heads, size + new + 8, width), np.float32) for _ in range(2 * layers)]
    names = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]

    def binding(first: int, end: int):
        made = session.io_binding()
        values = [ort.OrtValue.ortvalue_from_numpy(one[first:end]) for one in cache]
        for name, value in zip(names, values, strict=True):
            made.bind_ortvalue_input(f"past_key_values.{name}", value)
            made.bind_ortvalue_output(f"present.{name}", value)
        return made, values

    rows, together = [binding(i, i + 1) for i in range(streams)], binding(0, streams)

    def run(io, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        io[0].bind_cpu_input("input_ids", ids)
        io[0].bind_cpu_input("attention_mask", mask)
        io[0].bind_output("logits", "cpu")
        session.run_with_iobinding(io[0])
        return io[0].get_outputs()[-1].numpy()[:, -1].argmax(-1)

    def once() -> dict[str, object]:
        began, firsts, tokens, steps = time.perf_counter(), [], [], []
        for row, ids in enumerate(prompts(size, streams)):
            tokens.append(int(run(rows[row], ids[None].astype(np.int64), np.ones((1, size), np.int64))[0]))
            firsts.append((time.perf_counter() - began) * 1000)
        for done in range(1, new):
            start = time.perf_counter()
            tokens = run(together, np.array(tokens, np.int64)[:, None], np.ones((streams, size + done), np.int64))
            steps.append((time.perf_counter() - start) * 1000)
        return {"rate": streams * new / (time.perf_counter() - began), "firsts_ms": firsts, "step_ms": statistics.median(steps)}

    once()
    return once()


def llama(path: str, threads: int, size: int, new: int) -> dict[str, object]:
    from llama_cpp import Llama

    model = Llama(path, n_ctx=size + new + 8, n_threads=threads, n_threads_batch=threads, verbose=False, logits_all=False)
    firsts, each = [], []
    for ids in prompts(size, 3):
        model.reset()
        began = time.perf_counter()
        model.eval(ids.tolist())
        first = time.perf_counter()
        token = int(ids[0])
        for _ in range(new - 1):
            model.eval([token])
        firsts.append((first - began) * 1000)
        each.append((time.perf_counter() - first) * 1000 / (new - 1))
    return {"first_ms": statistics.median(firsts), "each_ms": statistics.median(each)}


if __name__ == "__main__":
    kind, where, *numbers = sys.argv[1:]
    print(json.dumps({"single": single, "turns": turns, "bare": bare, "llama": llama}[kind](where, *map(int, numbers))))

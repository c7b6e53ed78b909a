"""Text generation over real ONNX files: the same tokens as onnxruntime-genai's own generator, alone and in company."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from classifiers.onnx.session import Session
from classifiers.onnx.setup import Setup
from edge_agent.inference.generate import request
from edge_agent.inference.generate.decoder import Decoder
from edge_agent.inference.generate.engine import Generator
from edge_agent.inference.generate.prefix import BLOCK, PrefixCache
from edge_agent.inference.opening import Resources
from edge_agent.inference.port import BadPayload, Caller, ContextExceeded, Overloaded, Result
from edge_agent.inference.repository.lifecycle import Loaded, Unusable
from sync.kit import errors
from tests.support import asking, modelling
from tests.support.modelling import CALLER, DECODERS

FOLDERS = sorted(path.name for path in DECODERS.iterdir())
ENDLESS = {"2": -100.0}
"""Keeps the token that ends an answer from coming."""
LLAMA = DECODERS / "llama-fp32"
Open = Callable[..., Awaitable[Loaded]]


@pytest.fixture
async def load(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a decoder's folder as an agent would."""
    async with AsyncExitStack() as opened:

        async def make(source: Path = LLAMA, resources: Resources | None = None, **fields: object) -> Loaded:
            models = tmp_path / f"models-{len(list(tmp_path.iterdir()))}"
            modelling.copied(models, source, **fields)
            found = modelling.repository(models, resources=resources)
            opened.push_async_callback(found.close)
            return await opened.enter_async_context(found.lease("m"))

        yield make


async def generate(model: Loaded, text: str, *, caller: Caller = CALLER, emit=None, **options: object) -> Result:
    return await model.engine.run(asking.generate(text, **options), emit, caller)


def prompts(count: int) -> list[str]:
    rng = random.Random(1)
    return ["".join(rng.choice("abcdefgh xyz{}()=\n") for _ in range(size)) for size in (5, 40, 100, 9, 200, 31, 66)[:count]]


async def tokens_of(model: Loaded, text: str, most: int, emit) -> list[int]:
    """The tokens of a greedy answer: its text would hide those that make no whole character."""
    engine = model.engine
    assert isinstance(engine, Generator)
    wanted = request.check(asking.generate(text, max_tokens=most), None)
    prompt, answers = engine._prepare(wanted, emit)
    (sequence,) = await engine._finished(prompt, answers, wanted, CALLER)
    return sequence.answer.tokens


def reference(folder: Path, text: str, tokens: int) -> list[int]:
    """What onnxruntime-genai's own generator says."""
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    tokenizer = og.Tokenizer(model)
    ids = tokenizer.encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=500, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(ids)
    found: list[int] = []
    while not generator.is_done() and len(found) < tokens:
        generator.generate_next_token()
        found.append(int(generator.get_next_tokens()[0]))
    return found


@pytest.mark.parametrize("chunk", [256, 8])
@pytest.mark.parametrize("name", FOLDERS)
async def test_tokens_are_those_of_genais_generator_whoever_else_is_there(load: Open, name: str, chunk: int) -> None:
    """Each request joins when the one before it has said something; rows are fewer than requests."""
    model = await load(DECODERS / name, prefill_tokens=chunk, rows=4)
    sizes = (20, 40, 30, 50, 25, 60, 10)
    began = [asyncio.Event() for _ in sizes]

    async def one(number: int, text: str) -> list[int]:
        if number:
            await began[number - 1].wait()
        try:
            return await tokens_of(model, text, sizes[number], asking.Heard(lambda _: loop.call_soon_threadsafe(began[number].set)))
        finally:
            began[number].set()

    loop = asyncio.get_running_loop()
    found = await asyncio.gather(*(one(number, text) for number, text in enumerate(prompts(7))))
    told = DECODERS / ("llama-fp32" if name == "llama-plain" else name)
    assert found == [reference(told, text, size) for text, size in zip(prompts(7), sizes, strict=True)]


async def test_a_known_prefix_is_reused_and_the_answer_is_the_same(load: Open) -> None:
    model = await load()
    text = prompts(5)[-1]
    first = await generate(model, text)
    again = await generate(model, text)
    longer = await generate(model, text + " and more", max_tokens=30)
    other = await generate(model, text, caller=Caller("rival"))
    assert (first.answer.reused_tokens, other.answer.reused_tokens) == (0, 0)
    assert again.answer.reused_tokens >= again.prompt_tokens - BLOCK - 1
    assert longer.answer.reused_tokens > 100
    assert again.text == first.text == other.text


def test_a_tenant_finds_only_its_own_blocks_and_only_behind_the_same_tokens() -> None:
    cache = PrefixCache(most_bytes=10**6, token_bytes=16)
    tokens = list(range(3 * BLOCK))
    computed = np.arange(2 * len(tokens) * 2, dtype=np.float32).reshape(2, 1, len(tokens), 2)
    cache.store("a", tokens, lambda begin, end: computed[:, :, begin:end].copy())
    found = cache.find("a", tokens)
    assert np.array_equal(np.concatenate(found, axis=2), computed)
    assert cache.find("b", tokens) == []
    assert len(cache.find("a", [*tokens[: 2 * BLOCK], 999, *tokens[2 * BLOCK + 1 :]])) == 2
    assert cache.find("a", [999, *tokens[1:]]) == []
    assert len(cache.find("a", tokens[: 2 * BLOCK - 1])) == 1


def test_no_more_than_its_bytes_are_kept_and_the_beginning_of_a_chain_goes_last() -> None:
    block = BLOCK * 16
    cache = PrefixCache(most_bytes=4 * block, token_bytes=16)

    def read(begin: int, end: int) -> np.ndarray:
        return np.zeros((2, 1, end - begin, 2), dtype=np.float32)

    cache.store("a", list(range(10 * BLOCK)), read)
    assert len(cache.find("a", list(range(10 * BLOCK)))) == 4 and cache.held_bytes == 4 * block
    cache.store("a", list(range(1000, 1000 + BLOCK)), read)
    assert len(cache.find("a", list(range(10 * BLOCK)))) == 3 and cache.held_bytes == 4 * block


async def test_a_seed_makes_it_reproducible_and_choices_differ(load: Open) -> None:
    model = await load()
    options = {"temperature": 1.5, "seed": 11, "n": 3, "max_tokens": 20}
    first, second = [await generate(model, "x", **options) for _ in range(2)]
    assert [choice.text for choice in first.choices] == [choice.text for choice in second.choices]
    assert len({choice.text for choice in first.choices}) == 3
    assert first.completion_tokens > 40


async def test_streamed_pieces_are_the_choices(load: Open) -> None:
    model = await load()
    heard = asking.Heard()
    result = await generate(model, "x", temperature=1.5, seed=1, n=4, max_tokens=30, logprobs=True, top_logprobs=3, emit=heard)
    for number, choice in enumerate(result.choices):
        mine = [piece for piece in heard.pieces if piece.choice == number]
        assert "".join(piece.text for piece in mine) == choice.text
        assert tuple(score for piece in mine for score in piece.scores) == choice.scores
        assert all(score.logprob <= 0 and len(score.top_logprobs) == 3 for score in choice.scores)
        assert len(choice.scores) in (30, *(range(30) if choice.finish == "stop" else ()))


async def test_a_stop_string_ends_the_answer_before_it(load: Open) -> None:
    model = await load()
    whole = (await generate(model, "hello", max_tokens=40)).text
    stop = whole[10:13]
    heard = asking.Heard()
    cut = await generate(model, "hello", max_tokens=40, stop=(stop,), emit=heard)
    assert cut.text == whole[: whole.index(stop)] == "".join(piece.text for piece in heard.pieces)
    assert cut.finish == "stop"


SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["ok", "count", "tags"],
    "properties": {
        "ok": {"type": "boolean"}, "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 3},
    },
}  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
async def test_an_answer_held_to_a_schema_is_of_it_even_from_random_weights(load: Open, seed: int) -> None:
    model = await load()
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    result = await generate(model, "x", temperature=1.0, seed=seed, max_tokens=200, response_format=wanted)
    told = json.loads(result.text)
    assert set(told) == {"ok", "count", "tags"} and 0 <= told["count"] <= 99 and set(told["tags"]) <= {"red", "blue"}
    assert result.finish == "stop"


async def test_json_of_any_kind_is_an_object(load: Open) -> None:
    model = await load()
    result = await generate(model, "x", max_tokens=400, temperature=0.7, seed=2, response_format={"type": "json_object"})
    assert result.finish == "length" or isinstance(json.loads(result.text), dict)


BAD = {
    "no messages": ({"messages": ()}, BadPayload, "messages"),
    "a message without content": ({"messages": ({"role": "user"},)}, BadPayload, "content"),
    "a temperature that is none": ({"temperature": "hot"}, BadPayload, "temperature"),
    "a temperature over its limit": ({"temperature": 3.0}, BadPayload, "temperature"),
    "top_k below zero": ({"top_k": -1}, BadPayload, "top_k"),
    "top_p of nothing": ({"top_p": 0.0}, BadPayload, "top_p"),
    "min_p above one": ({"min_p": 1.5}, BadPayload, "min_p"),
    "a seed that is no number": ({"seed": "x"}, BadPayload, "seed"),
    "a bias that is no map": ({"logit_bias": [1]}, BadPayload, "logit_bias"),
    "a bias over its limit": ({"logit_bias": {"1": 101}}, BadPayload, "logit_bias"),
    "a bias for no token": ({"logit_bias": {"x": 1}}, BadPayload, "logit_bias"),
    "a bias for a token beyond all": ({"logit_bias": {"9" * 5000: 1}}, BadPayload, "logit_bias"),
    "too many answers": ({"n": 99}, BadPayload, "n:"),
    "too many likely tokens": ({"top_logprobs": 21}, BadPayload, "top_logprobs"),
    "no tokens at all": ({"max_tokens": 0}, BadPayload, "max_tokens"),
    "a form that does not exist": ({"response_format": {"type": "xml"}}, BadPayload, "response_format"),
    "a schema that is none": ({"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "banana"}}}}, BadPayload, "schema"),
    "a schema that cannot be met": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"enum": []}}}}, BadPayload, "schema"
    ),
    "a schema without end": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"enum": ["x" * 70_000]}}}}, BadPayload, "at most"
    ),
    "a prompt over the context": ({"messages": ({"role": "user", "content": "word " * 600},)}, ContextExceeded, "takes 511"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_is_told_what_is_wrong_and_the_others_go_on(load: Open, name: str) -> None:
    fields, kind, words = BAD[name]
    model = await load()
    good = asyncio.create_task(generate(model, "hello", max_tokens=60))
    with pytest.raises(kind, match=words):
        await generate(model, "x", **fields)
    assert (await good).completion_tokens == 60
    assert model.engine.running == 0


async def test_numbers_that_are_none_are_told_to_one_caller_and_the_others_go_on(tmp_path: Path, load: Open) -> None:
    source = shutil.copytree(DECODERS / "llama-plain", tmp_path / "source")
    file = onnx.load(source / "model.onnx")
    name = next(node.input[0] for node in file.graph.node if node.op_type == "Gather" and "embed" in node.input[0])
    table = next(i for i in file.graph.initializer if i.name == name)
    values = numpy_helper.to_array(table).copy()
    values[ord("~") - ord("!") + 3] = np.nan  # byte-level alphabet begins behind three special tokens
    table.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(file, source / "model.onnx")
    model = await load(source)
    good = asyncio.create_task(generate(model, "hello", max_tokens=30, emit=asking.Heard()))
    with pytest.raises(errors.RingfenceError, match="no numbers"):
        await generate(model, "a ~ b")
    assert (await good).completion_tokens == 30
    assert model.engine.running == 0


async def test_a_cancel_frees_its_row_in_every_phase(load: Open) -> None:
    model = await load(rows=1, prefill_tokens=8)
    said = asyncio.Event()
    loop = asyncio.get_running_loop()
    decoding = asyncio.create_task(
        generate(model, "a", max_tokens=480, logit_bias=ENDLESS, emit=asking.Heard(lambda _: loop.call_soon_threadsafe(said.set)))
    )
    await said.wait()
    queued = asyncio.create_task(generate(model, "b", max_tokens=480))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert model.engine.running == 2
    for task in (queued, decoding):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    prefilling = asyncio.create_task(generate(model, "word " * 90, max_tokens=1))
    await asyncio.sleep(0)
    prefilling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await prefilling
    assert (await generate(model, "hello", max_tokens=5)).completion_tokens == 5
    assert model.engine.running == 0


async def test_a_full_queue_says_when_to_come_again(load: Open) -> None:
    model = await load(rows=1, queue=1)
    said = asyncio.Event()
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(
        generate(model, "a", max_tokens=400, logit_bias=ENDLESS, emit=asking.Heard(lambda _: loop.call_soon_threadsafe(said.set)))
    )
    await said.wait()
    second = asyncio.create_task(generate(model, "b", max_tokens=2))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await generate(model, "c")
    assert refused.value.retry_after_s >= 1
    assert (await first).completion_tokens == 400 and (await second).completion_tokens == 2


async def test_more_than_the_cache_holds_waits_or_is_refused(load: Open) -> None:
    """A MiB holds 2,048 tokens of this model, four of these requests: the fifth and sixth wait."""
    token = 2 * 2 * 2 * 16 * 4
    model = await load(resources=Resources(kv_mib=1), rows=6)
    assert model.engine.running == 0
    with pytest.raises(ContextExceeded):
        await generate(model, "word " * 600)
    results = await asyncio.gather(*(generate(model, f"{n}", max_tokens=400, logit_bias=ENDLESS) for n in range(6)))
    assert [result.completion_tokens for result in results] == [400] * 6
    assert model.engine.held_bytes <= (1 << 20) + 512 * token


async def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, load: Open) -> None:
    source = shutil.copytree(LLAMA, tmp_path / "source")
    shutil.copy(DECODERS.parents[2] / "packaging/models/repository/guide/1/tokenizer.json", source)
    with pytest.raises(Unusable):
        await load(source)


async def test_closing_a_model_ends_its_requests_with_an_error_and_not_in_silence(load: Open) -> None:
    model = await load()
    said = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(
        generate(model, "a", max_tokens=480, logit_bias=ENDLESS, emit=asking.Heard(lambda _: loop.call_soon_threadsafe(said.set)))
    )
    await said.wait()
    await model.engine.close()
    with pytest.raises(errors.Retryable):
        await task


def test_a_long_request_leaves_no_memory_behind() -> None:
    """Trimming a row gives its pages back, and touches no other row's tokens."""
    decoder = Decoder(Session(LLAMA / "model.onnx", Setup()), rows=4, in_place=True, width=16)
    decoder.reserve(4096, [0, 0, 0])
    block = np.ones((4, 2, 4000, 16), dtype=np.float32)
    for row in range(4):
        decoder.write(row, 0, block * (row + 1))
    decoder.trim(1, 1000)
    assert (decoder.read(1, 0, 1000) == 2).all() and not decoder.read(1, 1100, 4000).any()
    for row in (0, 2, 3):
        assert (decoder.read(row, 0, 4000) == row + 1).all()

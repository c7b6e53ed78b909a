"""Encoders over real ONNX files, made here: pooling, labels, batches."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from classifiers.onnx.session import Stop
from classifiers.onnx.setup import BadModel
from edge_agent.inference import settling
from edge_agent.inference.encode.batcher import EncodeBatcher, Job, Row
from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.meters import InferenceMeters
from edge_agent.inference.opening import Resources
from edge_agent.inference.port import BadPayload, Caller
from edge_agent.inference.queue import FairQueue
from edge_agent.inference.repository.lifecycle import Loaded, Unusable
from sync.kit.metrics import Registry
from sync.wire import tasks
from tests.support import asking, modelling
from tests.support.modelling import CALLER

WIDTH, WORDS = 3, {"[UNK]": 0, "a": 1, "b": 2, "c": 3}
TABLE = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, -1]], dtype=np.float32)
Add = Callable[..., Awaitable[Loaded]]


def write_model(folder: Path, *, labels: bool) -> Path:
    """A model that looks each token up in a table; with `labels`, the sum over the tokens is the logits."""
    folder.mkdir()
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["hidden"])]
    shape: list[object] = ["batch", "sequence", WIDTH]
    if labels:
        nodes.append(helper.make_node("ReduceSum", ["hidden", "axes"], ["logits"], keepdims=0))
        shape = ["batch", WIDTH]
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids",)]
    output = helper.make_tensor_value_info("logits" if labels else "hidden", TensorProto.FLOAT, shape)
    constants = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")]
    graph = helper.make_graph(nodes, "lookup", ids, [output], constants[: 2 if labels else 1])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), folder / "model.onnx")
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
async def load(tmp_path: Path) -> AsyncIterator[Add]:
    async with AsyncExitStack() as opened:

        async def make(task: str, **fields: object) -> Loaded:
            modelling.copied(tmp_path / "models", write_model(tmp_path / task, labels=task == "classify"), task=task, **fields)
            found = modelling.repository(tmp_path / "models", resources=Resources(threads=2))
            opened.push_async_callback(found.close)
            return await opened.enter_async_context(found.lease("m"))

        yield make


async def vectors(model: Loaded, *texts: str, **options: object) -> np.ndarray:
    result = await model.engine.run(asking.request("embed", input=texts, **options), None, CALLER)
    assert isinstance(result.answer, tasks.Embedded)
    return np.frombuffer(result.answer.vectors, dtype="<f4").reshape(-1, result.answer.width)


POOLED = {"mean": [2, 1, 0], "cls": [1, 0, 0], "last": [0, 1, 0]}


@pytest.mark.parametrize("pooling", POOLED)
async def test_vectors_are_pooled_as_the_manifest_says(load: Add, pooling: str) -> None:
    model = await load("embed", pooling=pooling)
    (found,) = await vectors(model, "a a b")
    expected = np.array(POOLED[pooling]) / np.linalg.norm(POOLED[pooling])
    assert np.allclose(found, expected, atol=1e-6)


async def test_texts_of_any_length_come_back_in_their_order(load: Add) -> None:
    model = await load("embed", max_tokens=2000)
    texts = ["a " * n + "b" for n in (1, 1500, 3, 1000, 2, 1999)]
    together = await vectors(model, *texts)
    alone = [(await vectors(model, text))[0] for text in texts]
    assert np.allclose(together, alone, atol=1e-5)


async def test_a_text_is_cut_at_the_most_tokens_and_counted_so(load: Add) -> None:
    model = await load("embed", max_tokens=2)
    result = await model.engine.run(tasks.Embed(("a a b b b",)), None, CALLER)
    assert result.prompt_tokens == 2
    assert np.allclose(await vectors(model, "a a b b b"), await vectors(model, "a a"))


async def test_fewer_dimensions_are_unit_vectors_again(load: Add) -> None:
    model = await load("embed")
    (found,) = await vectors(model, "a a b", dimensions=2)
    assert np.allclose(found, np.array([2, 1]) / np.sqrt(5), atol=1e-6)
    with pytest.raises(BadPayload, match="dimensions"):
        await vectors(model, "a", dimensions=4)


@pytest.mark.parametrize("wrong", [{}, {"input": ()}, {"input": ("a", "")}, {"input": "a"}, {"input": (1,)}])
async def test_what_is_no_list_of_texts_is_refused(load: Add, wrong: dict[str, object]) -> None:
    model = await load("embed")
    with pytest.raises(BadPayload):
        await model.engine.run(asking.request("embed", **wrong), None, CALLER)


async def test_a_classifier_gives_labels_with_their_chances(load: Add) -> None:
    model = await load("classify", labels=["x", "y", "z"])
    result = await model.engine.run(tasks.Classify(("a a a", "b")), None, CALLER)
    first, second = result.answer.labels
    assert (first.label, second.label) == ("x", "y")
    assert first.score == pytest.approx(np.exp(3) / (np.exp(3) + 2), abs=1e-5)
    assert sum(first.scores.values()) == pytest.approx(1)


async def test_labels_that_do_not_fit_the_model_are_said_before_it_serves(load: Add, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unusable):
        await load("classify", labels=["x"])
    assert "3 scores for 1 labels" in capsys.readouterr().out


def test_a_model_that_is_no_text_encoder_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "source", labels=False)
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].input[1] = "pixels"
    model.graph.input[0].name = "pixels"
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(BadFolder, match="no text encoder"):
        modelling.add(tmp_path / "models", folder, task="embed")


def write_tagger(folder: Path) -> Path:
    """A model that gives each token the logits of its own row of a table: labels of tokens."""
    folder.mkdir()
    table = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 5], [5, 0, 0]], dtype=np.float32)
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
        helper.make_node("Identity", ["attention_mask"], ["seen"]),
    ]
    outs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", 3]),
        helper.make_tensor_value_info("seen", TensorProto.INT64, ["batch", "sequence"]),
    ]
    graph = helper.make_graph(nodes, "tags", ids, outs, [numpy_helper.from_array(table, "table")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), folder / "model.onnx")
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "New": 1, "York": 2, "is": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


async def test_labels_of_tokens_come_back_as_spans_of_the_text(tmp_path: Path) -> None:
    modelling.copied(tmp_path / "models", write_tagger(tmp_path / "s"), task="classify", labels=["O", "B-CITY", "I-CITY"])
    found = modelling.repository(tmp_path / "models")
    async with found.lease("m") as model:
        result = await model.engine.run(tasks.Classify(("Where is New York is New", "is")), None, CALLER)
    await found.close()
    first, second = result.answer.labels
    assert [(s.label, s.start, s.end) for s in first.spans] == [("CITY", 9, 17), ("CITY", 21, 24)]
    assert all(0.9 < s.score <= 1 for s in first.spans) and second == tasks.Labels(spans=())


async def test_labels_of_which_several_may_hold_have_chances_of_their_own(load: Add) -> None:
    model = await load("classify", labels=["x", "y", "z"], scores="sigmoid")
    (told,) = (await model.engine.run(tasks.Classify(("a b",)), None, CALLER)).answer.labels
    assert told.scores["x"] == told.scores["y"] == pytest.approx(1 / (1 + np.exp(-1)))


async def test_a_cut_text_is_told_by_its_place(load: Add) -> None:
    model = await load("embed", max_tokens=2)
    result = await model.engine.run(tasks.Embed(("a", "a b c", "b", "c c c")), None, CALLER)
    assert result.answer.truncated == (1, 3)


async def test_many_callers_at_once_get_their_own_and_a_cancel_takes_none_with_it(load: Add) -> None:
    model = await load("embed", max_tokens=500)
    texts = ["a " * (1 + n % 7) + "b " * (n % 5) for n in range(200)]
    alone = [(await vectors(model, text))[0] for text in texts[:20]]
    tasks = [asyncio.create_task(vectors(model, text)) for text in texts]
    await asyncio.sleep(0)
    for task in tasks[100:150]:
        task.cancel()
    kept = await asyncio.gather(*tasks[:100], *tasks[150:])
    assert np.allclose([found[0] for found in kept[:20]], alone, atol=1e-5)
    assert all(task.cancelled() for task in tasks[100:150])
    assert model.engine.running == 0


async def test_a_row_that_fails_is_told_to_its_caller_alone() -> None:
    """The batch is run again row by row."""

    def run(rows: Sequence[Row], stop: Stop) -> list[np.ndarray]:
        if any(row.value == "bad" for row in rows):
            raise BadModel("this one")
        return [np.array([len(row.value)]) for row in rows]

    queue: FairQueue[Job] = FairQueue(most=100, most_s=60)
    batcher = EncodeBatcher("m", run, threads=1, queue=queue, pads=True, wait_s=0, meters=InferenceMeters(Registry()).of("m"))
    futures = []
    for value in ("good", "bad", "also"):
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        job = Job(deque([Row(0, 10, value)]), CALLER, settling.settler(future))
        batcher.submit(job)
        futures.append((future, job))
    done = await asyncio.gather(*(future for future, _ in futures), return_exceptions=True)
    assert done[0] is None and isinstance(done[1], BadModel) and done[2] is None
    assert [int(job.results[0][0]) for _, job in (futures[0], futures[2])] == [4, 4]
    await asyncio.to_thread(batcher.close)


async def test_a_tenants_thousand_texts_do_not_keep_anothers_one_waiting() -> None:
    """With one thread that is held at its first run, the other tenant's row is in the second."""
    seen: list[list[str]] = []
    held = threading.Event()

    def run(rows: Sequence[Row], stop: Stop) -> list[np.ndarray]:
        seen.append([row.value for row in rows])
        if len(seen) == 1:
            held.wait(30)
        return [np.zeros(1) for _ in rows]

    queue: FairQueue[Job] = FairQueue(most=100, most_s=60)
    batcher = EncodeBatcher("m", run, threads=1, queue=queue, pads=True, wait_s=0, meters=InferenceMeters(Registry()).of("m"))
    futures = []
    for tenant, count in (("a", 1000), ("b", 1)):
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        batcher.submit(Job(deque(Row(i, 100, tenant) for i in range(count)), Caller(tenant), settling.settler(future)))
        futures.append(future)
    held.set()
    await asyncio.gather(*futures)
    assert "b" in seen[0] + seen[1]
    await asyncio.to_thread(batcher.close)

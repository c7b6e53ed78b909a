"""The site's own API with a real agent: an unmodified OpenAI client, the Open Inference Protocol, and what the policy says of both."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import openai
import pytest
from aiohttp import web
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from sync.audit import chain
from tests.support import modelling, running, system
from tests.support.modelling import DECODERS

ONPREM = system.Place("frankfurt-onprem", "on_premise", "frankfurt", api=True)
PUBLIC = system.Place("virginia-edge", "public_cloud", "virginia", api=True)


def shapes(folder: Path) -> Path:
    """A model of no text: y = relu(x) over [any, 2], and how many there are."""
    folder.mkdir(parents=True)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    size = helper.make_tensor_value_info("size", TensorProto.INT64, [2])
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Shape", ["x"], ["size"])]
    graph = helper.make_graph(nodes, "g", [x], [y, size])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), folder / "model.onnx")
    return folder


def ranker(folder: Path) -> Path:
    """A cross-encoder that counts one word."""
    folder.mkdir(parents=True)
    words = {"[UNK]": 0, "the": 1, "vault": 2, "weather": 3}
    table = np.array([[0], [0], [1], [-1]], dtype=np.float32)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 1])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["h"]),
        helper.make_node("ReduceSum", ["h", "axes"], ["logits"], keepdims=0),
    ]
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")]
    graph = helper.make_graph(nodes, "g", [ids], [out], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), folder / "model.onnx")
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    folder = tmp_path_factory.mktemp("site")
    repository = running.models(folder / "models")
    modelling.copied(repository, DECODERS / "llama-int4", name="endless", temperature=0.0)
    modelling.copied(repository, shapes(folder / "shapes"), name="shapes", task="tensors")
    modelling.copied(repository, ranker(folder / "ranker"), name="ranker", task="rerank", max_tokens=8)
    made = asyncio.run(running.start(folder, ONPREM, PUBLIC, models_folder=repository))
    yield made
    made.stop_all()


def url_of(site: system.System, place: system.Place = ONPREM) -> str:
    path = site.agent(place.name) / "status.json"
    return running.eventually(lambda: path.exists() and json.loads(path.read_text()).get("url", ""), "the site's API is up")


@pytest.fixture
def app(site: system.System) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url_of(site)}/v1", api_key=site.api_key, max_retries=0, timeout=60) as client:
        yield client


def call(site: system.System, path: str, body: object = None, *, key: str | None = None, place: system.Place = ONPREM):
    """Status, headers and JSON of a plain HTTP request."""
    request = urllib.request.Request(url_of(site, place) + path, data=None if body is None else json.dumps(body).encode())
    request.add_header("authorization", f"Bearer {site.api_key if key is None else key}")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.loads(error.read())


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_an_unmodified_client_gets_the_same_from_the_site_as_from_the_hub(site: system.System, app: openai.OpenAI) -> None:
    with running.client(site) as hub:
        options = {"model": "guide", "messages": say("What is a zone?"), "temperature": 0}
        answers = [client.chat.completions.create(**options).choices[0] for client in (hub, app)]
        assert answers[0].message.content == answers[1].message.content
        whole = app.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}, n=2, seed=3)
        events = list(whole)
        for number in (0, 1):
            text = "".join(c.delta.content or "" for e in events for c in e.choices if c.index == number)
            assert text == answers[0].message.content
        alone = app.chat.completions.create(**options)
        assert events[-1].usage.completion_tokens == 2 * alone.usage.completion_tokens > 0
        vectors = [client.embeddings.create(model="guide-embed", input=["a", "b"]).data for client in (hub, app)]
        assert np.allclose(vectors[0][1].embedding, vectors[1][1].embedding, atol=1e-6)
    assert {"guide", "shapes", "ranker"} <= {model.id for model in app.models.list()}


def test_a_schema_and_scores_come_through_hub_and_site(site: system.System, app: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    with running.client(site) as hub:
        for client in (hub, app):
            answer = client.chat.completions.create(
                model="guide", messages=say("x"), response_format=wanted, logprobs=True, top_logprobs=2, max_tokens=40
            )
            assert json.loads(answer.choices[0].message.content)["a"] in ("x", "y")
            scores = answer.choices[0].logprobs.content
            assert "".join(score.token for score in scores) == answer.choices[0].message.content
            assert all(len(score.top_logprobs) == 2 for score in scores)


def test_documents_are_ranked_at_hub_and_site(site: system.System) -> None:
    body = {
        "model": "ranker", "query": "the vault", "documents": ["the weather weather", "the vault vault", {"text": "the"}],
        "top_n": 2, "return_documents": True,
    }  # fmt: skip
    status, headers, told = call(site, "/v1/rerank", body)
    assert status == 200 and headers["x-ringfence-agent"] == "frankfurt-onprem"
    assert [(row["index"], row["document"]["text"]) for row in told["results"]] == [(1, "the vault vault"), (2, "the")]
    assert told["results"][0]["relevance_score"] > told["results"][1]["relevance_score"]
    with running.client(site) as hub:
        again = hub.post("/rerank", body=body, cast_to=object)
        assert again["results"] == told["results"]  # type: ignore[index]
    status, _, told = call(site, "/v1/rerank", {**body, "documents": ["the " * 50], "top_n": None})
    assert told["results"][0]["truncated"] is True


def test_what_the_policy_does_not_admit_here_is_refused_with_its_reasons(site: system.System) -> None:
    secret = {"model": "guide", "messages": say("My social security number is 536-22-8726.")}
    status, headers, _ = call(site, "/v1/chat/completions", secret)
    assert (status, headers["x-ringfence-level"]) == (200, "restricted")
    assert headers["x-ringfence-agent"] == ONPREM.name
    status, headers, told = call(site, "/v1/chat/completions", secret, place=PUBLIC)
    # It does not run at that site: the hub finds the place that the policy admits.
    assert (status, headers["x-ringfence-level"], headers["x-ringfence-agent"]) == (200, "restricted", ONPREM.name)
    password = {"model": "guide", "messages": say("the password is hunter2!Xy")}
    status, _, told = call(site, "/v1/chat/completions", password)
    assert (status, told["error"]["code"]) == (403, "policy_denied")


REFUSED = {
    "a wrong key": ("/v1/chat/completions", {"model": "guide", "messages": say("x")}, "rf_live_wrong", 401, "invalid_api_key"),
    "an unknown model": ("/v1/chat/completions", {"model": "nothing", "messages": say("x")}, None, 404, "model_not_found"),
    "a model that is not here": (
        "/v1/chat/completions",
        {"model": "absent", "messages": say("x")},
        None,
        503,
        "no_eligible_agent",
    ),
    "a model of another task": ("/v1/embeddings", {"model": "guide", "input": "x"}, None, 400, "model_task_mismatch"),
    "no JSON": ("/v1/chat/completions", [], None, 400, "invalid_request"),
    "an empty document": ("/v1/rerank", {"model": "ranker", "query": "x", "documents": [""]}, None, 400, "invalid_request"),
    "a path that is none": ("/v1/nothing", {}, None, 404, "not_found"),
    "tensors without a key": ("/v2/models/shapes/infer", {"inputs": []}, "", 401, "invalid_api_key"),
    "a version that is not used": ("/v2/models/shapes/versions/9/infer", {"inputs": []}, None, 404, "model_not_found"),
    "no tensors": ("/v2/models/shapes/infer", {"inputs": []}, None, 400, "invalid_request"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_have_openais_form(site: system.System, name: str) -> None:
    path, body, key, status, code = REFUSED[name]
    got, headers, told = call(site, path, body, key=key)
    assert (got, told["error"]["code"]) == (status, code)
    assert told["error"]["request_id"] == headers["x-request-id"]


def tensor(**fields: object) -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[-1.0, 2.0], [3.0, -4.0]], **fields}]}


def test_models_of_any_kind_run_by_the_open_inference_protocol(site: system.System) -> None:
    assert call(site, "/v2/health/live")[2] == {"live": True}
    assert call(site, "/v2/health/ready")[2] == {"ready": True}
    assert call(site, "/v2")[2]["name"] == "ringfence-agent"
    _, _, metadata = call(site, "/v2/models/shapes")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert call(site, "/v2/models/shapes/ready")[2]["ready"] is True
    status, headers, told = call(site, "/v2/models/shapes/infer", {"id": "mine", **tensor()})
    assert (status, told["id"], told["model_version"], headers["x-ringfence-level"]) == (200, "mine", "1", "restricted")
    assert told["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [0.0, 2.0, 3.0, 0.0]}
    _, _, told = call(site, "/v2/models/shapes/versions/1/infer", {**tensor(data=[-1, 2, 3, -4]), "outputs": [{"name": "size"}]})
    assert told["outputs"] == [{"name": "size", "datatype": "INT64", "shape": [2], "data": [2, 2]}]


WRONG_TENSORS = {
    "another type": tensor(datatype="INT64"), "another shape": tensor(shape=[4]), "too few numbers": tensor(data=[1.0]),
    "a shape that does not fit the model": tensor(shape=[1, 3], data=[1.0, 2.0, 3.0]), "words": tensor(data=["a", "b", "c", "d"]),
    "another name": tensor(name="z"), "a negative size": tensor(shape=[-1, 2]), "uneven rows": tensor(data=[[1.0, 2.0], 3.0]),
    "an output that it has not": {**tensor(), "outputs": [{"name": "z"}]},
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_TENSORS)
def test_tensors_that_do_not_fit_are_told_so(site: system.System, name: str) -> None:
    status, _, told = call(site, "/v2/models/shapes/infer", WRONG_TENSORS[name])
    assert status == 400 and told["error"]["code"] in ("bad_payload", "invalid_request"), told


def test_tensors_run_nowhere_that_restricted_requests_do_not(site: system.System) -> None:
    status, _, told = call(site, "/v2/models/shapes/infer", tensor(), place=PUBLIC)
    assert (status, told["error"]["code"]) == (503, "offline_unavailable")


def test_queue_and_compute_are_counted_apart(site: system.System, app: openai.OpenAI) -> None:
    app.chat.completions.create(model="guide", messages=say("Which levels exist?"))
    with urllib.request.urlopen(url_of(site) + "/metrics", timeout=30) as response:
        told = response.read().decode()
    for name in ("queue_seconds_count", "first_token_seconds_count", "next_token_seconds_count", "batch_rows_count"):
        assert f'ringfence_agent_{name}{{model="guide"}}' in told
    assert 'ringfence_agent_compute_seconds_count{model="guide",phase="prefill"}' in told
    assert 'ringfence_agent_load_seconds_count{model="guide"} 1.0' in told
    with urllib.request.urlopen(url_of(site) + "/healthz/ready", timeout=30) as response:
        assert json.loads(response.read())["mode"] == "online"


def test_a_client_that_goes_away_frees_its_row_and_leaves_a_record(site: system.System, app: openai.OpenAI) -> None:
    stream = app.chat.completions.create(
        model="open",
        messages=say("go"),
        max_tokens=256,
        stream=True,
        logit_bias={"2": -100},
        extra_headers={"cache-control": "no-store"},
    )
    next(iter(stream))
    stream.close()

    def cancelled() -> bool:
        with urllib.request.urlopen(url_of(site) + "/metrics", timeout=30) as response:
            return 'ringfence_agent_requests_total{model="endless",outcome="cancelled"} 1.0' in response.read().decode()

    running.eventually(cancelled, "the request is counted as cancelled")


def journalled(site: system.System, request: str) -> list[tuple[str, dict[str, object]]]:
    """Kind and fields of the agent's records of a request."""
    with sqlite3.connect(f"file:{site.agent('frankfurt-onprem') / 'journal.db'}?mode=ro", uri=True) as connection:
        entries = [chain.decode(entry) for (entry,) in connection.execute("select entry from entries")]
    return [(entry.kind, entry.fields) for entry in entries if entry.fields.get("request") == request]


def test_what_came_to_the_site_is_in_its_journal(site: system.System, app: openai.OpenAI) -> None:
    raw = app.chat.completions.with_raw_response.create(model="guide", messages=say("What is a receipt? 4711"))
    found = dict(journalled(site, raw.headers["x-request-id"]))
    decided, run, request = found["decided"], found["run"], found["request"]
    assert (decided["agent"], decided["level"], decided["tries"]) == (ONPREM.name, "public", 1)
    assert (run["outcome"], run["level"], run["task"]) == ("done", "public", "generate")
    assert (request["outcome"], request["mode"], request["via"], request["forwarded"]) == ("answered", "online", ONPREM.name, False)
    assert "4711" not in str(found)


def test_what_was_refused_at_the_site_is_in_its_journal_too(site: system.System) -> None:
    password = {"model": "guide", "messages": say("the password is hunter2!Xy")}
    _, headers, _ = call(site, "/v1/chat/completions", password)
    ((kind, found),) = journalled(site, headers["x-request-id"])
    assert (kind, found["code"], found["level"], found["principal"]) == ("request", "policy_denied", "restricted", "demo-app")
    assert "hunter2" not in str(found)


def test_an_upstream_server_serves_at_the_site_within_its_egress_list(tmp_path: Path) -> None:
    """A second server process's answers, streamed through agent and hub."""

    async def story() -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            body = await request.json()
            response = web.StreamResponse()
            await response.prepare(request)
            for piece in ("From ", body["model"]):
                event = {"choices": [{"index": 0, "delta": {"content": piece}}]}
                await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            await response.write(
                b'data: {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 2}}\n\ndata: [DONE]\n\n'
            )
            return response

        application = web.Application()
        application.add_routes([web.post("/v1/chat/completions", answer)])
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        repository = running.models(tmp_path / "models")
        target = repository / "upstream" / "1"
        target.mkdir(parents=True)
        told = {
            "name": "upstream", "version": "1", "task": "generate", "backend": "upstream", "files": {},
            "upstream": {"url": f"http://127.0.0.1:{port}/v1", "model": "theirs"},
        }  # fmt: skip
        (target / "manifest.json").write_text(json.dumps(told))
        made = await running.start(tmp_path, ONPREM, models_folder=repository)
        try:
            url = await asyncio.to_thread(url_of, made)
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=made.api_key, max_retries=0) as app:
                with pytest.raises(openai.APIStatusError) as refused:
                    await app.chat.completions.create(model="upstream", messages=say("hi"))
                assert refused.value.code == "model_unusable"
                made.environment["RINGFENCE_AGENT_EGRESS"] = json.dumps([f"127.0.0.1:{port}@127.0.0.0/8"])
                made.stop("frankfurt-onprem")
                (made.agent("frankfurt-onprem") / "status.json").unlink()
                made.start_agent("frankfurt-onprem")
                await made.wait_for_agents(["frankfurt-onprem"])
            url = await asyncio.to_thread(url_of, made)
            for base, key in ((url, made.api_key), (made.url, made.api_key)):
                async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0) as app:
                    stream = await app.chat.completions.create(
                        model="upstream", messages=say("hi"), stream=True, stream_options={"include_usage": True}
                    )
                    events = [event async for event in stream]
                    assert "".join(c.delta.content or "" for e in events for c in e.choices) == "From theirs"
                    assert events[-1].usage.completion_tokens == 2
        finally:
            made.stop_all()
            await runner.cleanup()

    asyncio.run(story())

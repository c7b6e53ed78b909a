"""Law: every request that is refused is counted by its code, and recorded where its tenant is known; a denial by policy is no
failure; and nobody fills a journal with refusals.

Mutations that turn it red: leave Surface.on_refused out of the server; set Seen.recorded in Surface.call; let Sparing.take
return 0 always.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from sync.bundle import snapshot
from sync.kit.ids import ModelName
from sync.serving.sparing import PER_WINDOW
from tests.support import builders
from tests.support.house import House

CHAT = "/v1/chat/completions"
SAY = [{"role": "user", "content": "hi"}]
LIMITS = snapshot.Limits(100_000, 10_000_000, 256, 256)
MODELS = (ModelName("guide"),)
CASES: Mapping[str, tuple[str, object, str, int, str]] = {
    "a body that is none": (CHAT, {"messages": 5}, "acme", 400, "invalid_request"),
    "a field that is not supported": (CHAT, {"model": "guide", "messages": SAY, "audio": {"x": 1}}, "acme", 400, "unsupported"),
    "more tokens than may be": (CHAT, {"model": "guide", "messages": SAY, "max_tokens": 999}, "acme", 400, "max_tokens_exceeded"),
    "a model that is not there": (CHAT, {"model": "no", "messages": SAY}, "acme", 404, "model_not_found"),
    "a model of others": (CHAT, {"model": "guide", "messages": SAY}, "modelless", 404, "model_not_found"),
    "a path that is not there": ("/v1/nothing", {}, "acme", 404, "not_found"),
    "a rate that is used up": (CHAT, {"model": "guide", "messages": SAY}, "rated", 429, "rate_limit_exceeded"),
    "what no place may process": (CHAT, {"model": "guide", "messages": SAY}, "denied", 403, "policy_denied"),
    "an explanation of what may not be": ("/v1/decisions", {"model": "no", "messages": SAY}, "acme", 404, "model_not_found"),
    "a classification of nothing": ("/v1/classify", {"input": []}, "acme", 400, "invalid_request"),
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    tenants = (
        builders.tenant("acme", allowed_models=MODELS, limits=LIMITS),
        builders.tenant("modelless", allowed_models=(), limits=LIMITS),
        builders.tenant("rated", allowed_models=MODELS, limits=snapshot.Limits(0, 100, 8, 256)),
        builders.tenant("denied", allowed_models=MODELS, limits=LIMITS, rules=(builders.rule(deny=True),)),
    )
    async with House(tmp_path, tenants, (builders.model("guide"),)) as made:
        yield made


@pytest.mark.parametrize("at", ["hub", "onprem"])
@pytest.mark.parametrize("name", CASES)
async def test_what_is_refused_is_counted_and_recorded(house: House, name: str, at: str) -> None:
    path, body, tenant, status, code = CASES[name]
    node = house.hub if at == "hub" else house.sites[at]
    got, headers, answer = await house.post(path, body, at=at, tenant=tenant)
    assert (got, json.loads(answer)["error"]["code"]) == (status, code)
    await house.settled()
    assert node.counted("ringfence_refusals_total") == {f'{{code="{code}"}}': 1.0}
    (record,) = node.records("request")
    assert record.tenant == tenant
    assert (record.fields["request"], record.fields["code"]) == (headers["x-request-id"], code)
    assert (record.fields["outcome"], record.fields["principal"]) == ("refused", "app")


async def test_an_unknown_key_is_counted_and_nobodys_record(house: House) -> None:
    house.api_keys["acme"] = "rf_live_nobody"
    status, _, _ = await house.chat("hi")
    assert status == 401
    await house.settled()
    assert house.hub.counted("ringfence_refusals_total") == {'{code="invalid_api_key"}': 1.0}
    assert house.hub.records("request") == []


async def test_a_denial_is_no_failure(house: House) -> None:
    await house.chat("hi", tenant="denied")
    assert house.hub.counted("ringfence_requests_total") == {'{outcome="denied",task="generate"}': 1.0}


async def test_of_many_refusals_alike_some_are_written_and_all_are_counted(house: House) -> None:
    for _ in range(PER_WINDOW + 7):
        await house.chat("hi", tenant="acme", model="no")
    await house.chat("hi", tenant="modelless")
    await house.settled()
    records = house.hub.records("request")
    mine = [record for record in records if record.tenant == "acme"]
    assert len(mine) == PER_WINDOW + 1
    assert mine[-1].fields["more"] == 7
    assert len(records) - len(mine) == 1, "another tenant's are its own"
    assert house.hub.counted("ringfence_refusals_total") == {'{code="model_not_found"}': PER_WINDOW + 8.0}

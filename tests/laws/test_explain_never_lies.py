"""Law: what is explained is what happens: the same function over the same facts, roles and unread texts included.

Mutation that turns it red: leave the roles, or read_whole, out of stages.facts.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync.bundle import snapshot
from sync.kit.ids import ModelName
from sync.wire.levels import Level, Zone
from tests.support import builders
from tests.support.house import House

LIMITS = snapshot.Limits(100_000, 10_000_000, 256, 4096)
GUIDE = (ModelName("guide"),)
TENANTS = (
    builders.tenant("plain", allowed_models=GUIDE, limits=LIMITS),
    builders.tenant("by-role", allowed_models=GUIDE, limits=LIMITS, rules=(builders.rule(deny=True, roles=("user",)),)),
    builders.tenant("other-role", allowed_models=GUIDE, limits=LIMITS, rules=(builders.rule(deny=True, roles=("admin",)),)),
    builders.tenant("by-category", allowed_models=GUIDE, limits=LIMITS, rules=(builders.rule(deny=True, categories=("pii",)),)),
    builders.tenant("floored", allowed_models=GUIDE, limits=LIMITS, floor=Level.RESTRICTED),
    builders.tenant("narrow", allowed_models=GUIDE, limits=LIMITS, rules=(builders.rule(zones=(Zone.ON_PREMISE,)),)),
    builders.tenant("elsewhere", allowed_models=GUIDE, limits=LIMITS, jurisdictions=("us",)),
    builders.tenant(
        "redacting",
        allowed_models=GUIDE,
        limits=LIMITS,
        redaction=snapshot.Redaction("pseudonym", (Zone.PUBLIC_CLOUD, Zone.PRIVATE_CLOUD)),
    ),
)
DENIED = {"public": ("by-role",), "personal": ("by-role", "by-category", "elsewhere"), "restricted": ("by-role", "elsewhere")}
"""Whom the policy denies what: the two cannot be wrong together."""
TEXTS = {
    "public": "What is the capital of France?",
    "personal": "Write to jane.doe@example.org about it.",
    "restricted": "My card is 4111 1111 1111 1111.",
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with House(tmp_path, TENANTS, (builders.model("guide"),)) as made:
        yield made


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("at", ["hub", "onprem", "public"])
async def test_what_is_explained_is_what_happens(house: House, at: str, text: str) -> None:
    for tenant in TENANTS:
        body = {"model": "guide", "messages": [{"role": "user", "content": TEXTS[text]}]}
        status, _, explained = await house.post("/v1/decisions", body, at=at, tenant=tenant.id)
        assert status == 200, explained
        told = json.loads(explained)
        status, headers, answer = await house.post("/v1/chat/completions", body, at=at, tenant=tenant.id)
        assert told["allowed"] == (status != 403), (tenant.id, told, answer)
        assert (status == 403) == (tenant.id in DENIED.get(text, ())), "what is right is known beforehand, not from explain"
        if status == 403:
            reasons = json.loads(answer)["error"]["reasons"]
            assert reasons == told["reasons"]
        if status == 200:
            assert headers["x-ringfence-level"] == told["level"]
            assert headers["x-ringfence-zone"] in told["zones"]
            assert not told["plan"] or headers["x-ringfence-agent"] in told["plan"]
        else:
            assert not told["plan"]


async def test_a_text_that_was_not_read_to_its_end_goes_to_no_zone_that_redacts_and_explain_says_so(house: House) -> None:
    classifier = house.classifier

    def failing(*_: object, **__: object) -> object:
        raise RuntimeError("broken")

    classifier._assess = failing  # type: ignore[method-assign,assignment]
    body = {"model": "guide", "messages": [{"role": "user", "content": "hello"}]}
    _, _, explained = await house.post("/v1/decisions", body, tenant="redacting")
    told = json.loads(explained)
    status, headers, _ = await house.post("/v1/chat/completions", body, tenant="redacting")
    assert told["zones"] == ["on_premise"] and told["classifier"] == "failed"
    assert status == 200 and headers["x-ringfence-zone"] == "on_premise"

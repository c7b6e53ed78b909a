"""Law: while nothing is known of an answer yet, its client gets a comment now and then, so that no proxy cuts it; from the
first byte on an error is an event.

Mutation that turns it red: let EventStream._keep_alive return at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync.wire.messages import Failed
from tests.laws.conftest import MODELS, TENANTS
from tests.support import builders
from tests.support.house import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    models = tuple(builders.model(name) for name in MODELS)
    async with House(tmp_path, TENANTS, models, quiet_s=0.02) as made:
        yield made


@pytest.mark.parametrize("at", ["hub", "onprem", "public"])
async def test_a_stream_that_is_quiet_gets_comments_and_then_its_answer(house: House, at: str) -> None:
    status, headers, body = await house.chat("card 4111 1111 1111 1111", at=at, model="sleepy", stream=True)
    assert status == 200 and headers["x-ringfence-level"] == "restricted"
    assert body.startswith(b": "), "a comment, before anything is known"
    assert body.endswith(b"data: [DONE]\n\n")
    events = [line for line in body.split(b"\n\n") if line and not line.startswith(b": ")]
    assert all(event.startswith(b"data: ") for event in events), "no event is cut by a comment"


@pytest.mark.parametrize("at", ["hub", "onprem"])
async def test_after_a_comment_an_error_is_an_event(house: House, at: str) -> None:
    for site in house.sites.values():
        assert site.runner is not None
        start = site.runner.start

        def failing(run, reply, start=start):
            async def say(message):
                if message.KIND in ("chunk", "done"):
                    message = Failed(run.request, "model_failed", "It broke.", False, 0.0)
                await reply(message)

            start(run, say)

        site.runner.start = failing  # type: ignore[method-assign]
    status, _, body = await house.chat("hello", at=at, model="sleepy", stream=True)
    assert status == 200
    assert b'"code": "model_failed"' in body and b"[DONE]" not in body


async def test_before_it_an_error_has_its_status(house: House) -> None:
    status, _, _ = await house.chat("hello", model="none", stream=True)
    assert status == 404

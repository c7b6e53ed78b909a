"""Law: redaction takes out what was found, and changes nothing else: what it cannot do so goes to no place that redacts.

Two keys that would become one, a text that would become empty, and a number that would become a word are refused, and no engine
gets anything.

Mutations that turn it red: leave the count of keys out of `strings._rebuilt`; leave out `redacting._check_kept`; return the
number as it was in `strings._rebuilt`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.bundle import snapshot
from sync.serving.classifier import NotRedactable
from sync.serving.redacting import _check_kept
from sync.wire import strings, tasks
from sync.wire.levels import Level, Zone
from tests.support import builders
from tests.support.house import House

MODES = ("pseudonym", "surrogate", "mask", "hash", "drop")
ONE, OTHER = "4111 1111 1111 1111", "5500 0000 0000 0004"


def _tenant(mode: str) -> snapshot.Tenant:
    return builders.tenant(
        mode,
        allowed_models=(builders.model("guide").name,),
        limits=snapshot.Limits(100_000, 10_000_000, 256, 4096),
        routes=tuple(snapshot.Route(level, (Zone.PUBLIC_CLOUD,), ()) for level in Level),
        redaction=snapshot.Redaction(mode, (Zone.PUBLIC_CLOUD,)),
    )


@pytest.fixture
async def redacting_house(tmp_path: Path) -> AsyncIterator[House]:
    async with House(tmp_path, tuple(map(_tenant, MODES)), (builders.model("guide"),)) as made:
        yield made


def _chat(content: str, *, schema: object = None, **options: object) -> dict[str, object]:
    body: dict[str, object] = {"model": "guide", "messages": [{"role": "user", "content": content}], **options}
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}
    return body


TWO_KEYS = _chat("hello", schema={"properties": {ONE: {"type": "string"}, OTHER: {"type": "string"}}})
EMPTIED = _chat("hello", messages=[{"role": "user", "content": ONE}, {"role": "user", "content": "go on"}])
STOP = _chat("hello", stop=[ONE])
NUMBER = _chat("hello", schema={"enum": [4111111111111111]})
BESIDE = _chat(f"my card is {ONE}", schema={"enum": [7, 123456789012, 0.25, True]})

CASES: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "two keys": (TWO_KEYS, ("mask", "drop")),
    "an emptied message": (EMPTIED, ("drop",)),
    "an emptied stop": (STOP, ("drop",)),
    "a number": (NUMBER, MODES),
    "numbers beside": (BESIDE, ()),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
async def test_it_is_explained_that_no_place_gets_it(redacting_house: House, name: str, mode: str) -> None:
    body, refused = CASES[name]
    status, _, answer = await redacting_house.post("/v1/decisions", body, tenant=mode)
    assert status == 200, answer
    assert bool(json.loads(answer)["plan"]) == (mode not in refused)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
async def test_what_would_become_another_request_is_refused(redacting_house: House, name: str, mode: str) -> None:
    body, refused = CASES[name]
    runs = []
    for site in redacting_house.sites.values():
        assert site.runner is not None
        start = site.runner.start
        site.runner.start = lambda run, reply, start=start: (runs.append(run), start(run, reply))  # type: ignore[method-assign]
    status, _, answer = await redacting_house.post("/v1/chat/completions", body, tenant=mode)
    if mode in refused:
        assert json.loads(answer)["error"]["code"] == "not_redactable", answer
        assert not runs
    else:
        assert status == 200, answer
        (run,) = runs
        assert ONE.encode() not in run.payload and OTHER.encode() not in run.payload
        sent, asked = tasks.read_request("generate", run.payload), len(strings.of(tasks.read_request("generate", run.payload)))
        assert isinstance(sent, tasks.Generate) and all(message.content for message in sent.messages) and asked


KEYS = st.dictionaries(st.text(max_size=3), st.integers(10**5, 10**9) | st.text(max_size=3), min_size=1, max_size=4)


@given(KEYS, st.data())
def test_other_strings_give_the_same_shape_or_are_refused(schema: dict[str, object], data: st.DataObject) -> None:
    request = tasks.Generate(
        messages=(tasks.Message(tasks.Role.USER, "hi"),),
        max_tokens=1,
        response_format=tasks.ResponseFormat(tasks.Format.SCHEMA, tasks.JsonSchema(name="n", schema=schema)),
    )
    texts = strings.of(request)
    others = [data.draw(st.sampled_from(["", "x", text])) for text in texts]
    try:
        made = strings.replaced(request, others)
    except strings.Unreplaceable:
        return
    assert strings.of(made) == tuple(others)


@given(st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["", " ", "x"])), max_size=4))
def test_no_text_that_said_something_becomes_empty(pairs: list[tuple[str, str]]) -> None:
    before, after = [old for old, _ in pairs], [new for _, new in pairs]
    emptied = any(old.strip() and not new.strip() for old, new in pairs)
    if emptied:
        with pytest.raises(NotRedactable):
            _check_kept(before, after)
    else:
        _check_kept(before, after)

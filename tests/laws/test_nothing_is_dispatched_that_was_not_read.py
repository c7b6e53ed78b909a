"""Law: nothing is dispatched that was not read (invariant 1): every string of what an engine gets was classified, and can be
redacted.

A marker that is restricted is put into every field of every body in turn, keys too, at the hub, at a site, forwarded,
streamed, and for a tenant that redacts; and as a number into every field that takes a JSON value. Then it is refused, or it
ran where what is restricted may, or it is not in the bytes that an engine got.

Mutations that turn it red: put "stop" or "response_format" into Generate.UNREAD; take the texts of an Ask from its messages
alone; believe `Forward.texts`; read no numbers in `strings.walk`, or no floats; take ten digits for a `TokenId`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.wire import codec, strings, tasks, types
from sync.wire.messages import Run
from tests.support.house import House

MARKER = "4111 1111 1111 1111"
CHAT = {
    "model": "guide",
    "messages": [
        {"role": "system", "content": "be kind", "name": "sys"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {
            "role": "assistant",
            "content": "hi",
            "refusal": "no",
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
    ],
    "stop": ["end", "halt"],
    "logit_bias": {"5": 1},
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "form",
            "description": "what it is",
            "schema": {
                "type": "object",
                "description": "a form",
                "required": ["a"],
                "additionalProperties": False,
                "properties": {"a": {"enum": ["x", "y"], "const": "x"}},
            },
        },
    },
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "functions": [{"name": "f", "description": "d"}],
    "user": "u",
    "metadata": {"k": "v"},
    "prediction": {"type": "content", "content": "p"},
    "service_tier": "auto",
    "reasoning_effort": "low",
    "guided_json": {"a": "b"},
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "something_new": {"deep": ["x"]},
}
BODIES: dict[str, tuple[str, dict[str, object]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "embeddings": ("/v1/embeddings", {"model": "embed", "input": ["a", "b"], "encoding_format": "float", "user": "u", "new": "n"}),
    "rerank": ("/v1/rerank", {"model": "rank", "query": "q", "documents": ["a", {"text": "b", "title": "t"}], "new": "n"}),
    "classify": ("/v1/classify", {"model": "label", "input": ["a", "b"], "new": "n"}),
}
REFUSED_AS_WHOLE = ("tools", "functions", "reasoning_effort", "guided_json", "tool_calls")
"""Fields for which the body is refused whatever they hold: each case leaves out all but its own."""


def _places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Every leaf of a body that is a string, and every key of a map."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, ("key", key))
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, (*path, number))
    elif isinstance(value, str):
        yield path


def _marked(value: object, path: tuple[object, ...]) -> object:
    if not path:
        return MARKER
    step, rest = path[0], path[1:]
    if isinstance(step, tuple):
        return {(MARKER if key == step[1] else key): inner for key, inner in value.items()}  # type: ignore[attr-defined]
    if isinstance(value, dict):
        return {key: _marked(inner, rest) if key == step else inner for key, inner in value.items()}
    return [_marked(inner, rest) if number == step else inner for number, inner in enumerate(value)]  # type: ignore[arg-type]


def _lean(value: object, path: tuple[object, ...]) -> object:
    """A body without the fields that are refused as wholes, but for the one that this case is about."""
    if isinstance(value, dict):
        kept = {}
        for key, inner in value.items():
            mine = bool(path) and path[0] == key
            if key in REFUSED_AS_WHOLE and not mine:
                continue
            kept[key] = _lean(inner, path[1:] if mine else ())
        return kept
    if isinstance(value, list):
        return [_lean(inner, path[1:] if path and path[0] == n else ()) for n, inner in enumerate(value)]
    return value


CASES = [
    pytest.param(kind, path, id=f"{kind}:{'.'.join(str(step[1]) + '*' if isinstance(step, tuple) else str(step) for step in path)}")
    for kind, (_, body) in BODIES.items()
    for path in _places(body)
    if path != ("model",)
]


def _spy(house: House) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in house.sites}
    for name, site in house.sites.items():
        assert site.runner is not None
        start = site.runner.start

        def spied(run, reply, name=name, start=start):
            runs[name].append(run)
            start(run, reply)

        site.runner.start = spied  # type: ignore[method-assign]
    return runs


@pytest.mark.parametrize(("kind", "path"), CASES)
async def test_a_marker_in_any_field_is_refused_or_read_or_not_in_the_engines_bytes(
    house: House, kind: str, path: tuple[object, ...]
) -> None:
    url, whole = BODIES[kind]
    body = _marked(_lean(whole, path), path)
    runs = _spy(house)
    for at in ("hub", "public", "onprem"):
        for extra in ({}, {"stream": True}) if kind == "chat" else ({},):
            for tenant in ("acme", "redacto"):
                for name in runs:
                    runs[name].clear()
                house.beat()
                status, headers, answer = await house.post(url, {**body, **extra}, at=at, tenant=tenant)
                assert status < 500 or status in (502, 503), answer
                for name, ran in runs.items():
                    for run in ran:
                        if MARKER.encode() not in run.payload:
                            continue
                        assert name == "onprem" and tenant == "acme", f"{at} {extra} {tenant}: the marker reached {name}"
                        assert headers["x-ringfence-level"] == "restricted"


def test_every_field_that_can_hold_free_text_is_walked() -> None:
    """By the types of the request structs, so that a field that is added later is covered before anybody thinks of it."""
    for kind in tasks.REQUESTS.values():
        for path, hint in _text_fields(kind):
            name = path.split(".", maxsplit=1)[0]
            if name in kind.UNREAD:
                assert _is_digits(hint), f"{kind.__name__}.{path} is not read, and may hold more than digits"


def _text_fields(kind: type, path: str = "") -> Iterator[tuple[str, object]]:
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if name in ("TASK", "UNREAD"):
            continue
        yield from _texts_of(hint, f"{path}{name}")


def _texts_of(hint: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(hint, type) and issubclass(hint, types.Closed):
        yield from _text_fields(hint, f"{path}.")
    elif (typing.get_origin(hint) is typing.Annotated and typing.get_args(hint)[0] is str) or hint is str or hint is typing.Any:
        yield path, hint
    else:
        for inner in typing.get_args(hint):
            yield from _texts_of(inner, path)


def _is_digits(hint: object) -> bool:
    return any(str(getattr(meta, "pattern", "")).startswith("\\A[0-9]") for meta in typing.get_args(hint)[1:])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.text(max_size=9), min_size=1, max_size=3), st.lists(st.text(max_size=5), max_size=3), JSON)
def test_the_walk_finds_every_string_and_puts_others_in_their_places(contents: list[str], stop: list[str], schema: object) -> None:
    request = tasks.Generate(
        messages=tuple(tasks.Message(tasks.Role.USER, content) for content in contents),
        max_tokens=3,
        stop=tuple(stop),
        response_format=tasks.ResponseFormat(tasks.Format.SCHEMA, tasks.JsonSchema(name="n", schema={"s": schema})),
    )
    texts = strings.of(request)
    assert sorted(texts) == sorted(_all_strings(request))
    numbered = [f"<{number}>" for number in range(len(texts))]
    replaced = strings.replaced(request, numbered)
    assert strings.of(replaced) == tuple(numbered)
    assert strings.replaced(replaced, texts) == request
    with pytest.raises(ValueError, match="texts than places"):
        strings.replaced(request, [*numbered, "more"])


def _all_strings(value: object) -> Iterator[str]:
    """Every string of a value by another way than the walk: out of its bytes on the wire, but for the fields' own names."""
    if isinstance(value, types.Closed):
        for name in types.fields(type(value)):
            if name not in getattr(type(value), "UNREAD", ()):
                yield from _all_strings(getattr(value, name))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _all_strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _all_strings(inner)
    elif isinstance(value, str) and not isinstance(value, Enum):
        yield value


NUMBERS: dict[str, dict[str, object]] = {
    "enum": {"enum": [4111111111111111]},
    "const": {"properties": {"a": {"const": 4111111111111111}}},
    "float": {"properties": {"a": {"const": 4111111111111111.0}}},
    "negative": {"enum": [-4111111111111111]},
    "bound": {"properties": {"a": {"type": "integer", "minimum": 4111111111111111}}},
    "nested": {"anyOf": [{"not": {"allOf": [{"enum": [[[4111111111111111]]]}]}}]},
}


@pytest.mark.parametrize("name", NUMBERS)
async def test_a_marker_as_a_number_is_read_and_reaches_no_place_that_redacts(house: House, name: str) -> None:
    schema = tasks.JsonSchema(name="form", schema=NUMBERS[name])
    assert "4111111111111111" in strings.of(schema)
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": NUMBERS[name]}}
    runs = _spy(house)
    for at in ("hub", "public", "onprem"):
        for tenant in ("acme", "redacto"):
            status, headers, answer = await house.post(
                "/v1/chat/completions",
                {"model": "guide", "messages": [{"role": "user", "content": "hello"}], "response_format": form},
                at=at,
                tenant=tenant,
            )
            assert (status == 200) == (tenant == "acme"), answer
            assert headers["x-ringfence-level"] == "restricted"
    assert [len(runs[at]) for at in ("onprem", "private", "public")] == [3, 0, 0]


@pytest.mark.parametrize("digits", [7, 8, 10])
async def test_a_token_number_is_too_short_to_say_who_somebody_is(house: House, digits: int) -> None:
    status, _, answer = await house.chat("hello", logit_bias={"5" * digits: 1})
    assert (status == 200) == (digits <= 7), answer
    request = tasks.Generate(messages=(tasks.Message(tasks.Role.USER, "a"),), max_tokens=1, logit_bias={"5" * digits: 1.0})
    try:
        tasks.read_request("generate", tasks.pack(request))
    except codec.BadFrame:
        assert digits > 7
    else:
        assert digits <= 7


READ = {
    100_000: "100000", -536228743: "536228743", 99_999: "", 1e6: "1000000", -4111111111111111.0: "4111111111111111",
    0.5: "", 12345.6: "12345.6", 2**63: str(2**63), True: "",
}  # fmt: skip


@pytest.mark.parametrize("value", READ)
def test_a_free_number_of_six_digits_is_read_by_its_digits(value: float) -> None:
    assert strings.of_number(value) == READ[value]


async def test_a_site_vouches_for_nothing_what_it_says_of_a_request_is_not_read(house: House) -> None:
    """A forwarding site that lies: texts that are harmless beside a payload that is not."""
    from sync.bus.port import Conversation
    from sync.crypto import signing
    from sync.crypto.sealing import SealingKey
    from sync.kit import ids
    from sync.serving.replies import MESSAGES
    from sync.wire import subjects
    from sync.wire.levels import Level
    from sync.wire.messages import Failed, Forward, Placed
    from sync.wire.session import HubSession

    runs = _spy(house)
    evil = house.sites["public"]
    keys = house._keys["public"]
    session = HubSession(evil.parts.recorder._me, SealingKey(house.snap.bundle.hub_key), keys.signer, 0.0, signing.FORWARD)  # type: ignore[arg-type]
    payloads = {
        "version 0.1's": {"messages": ({"role": "user", "content": f"card {MARKER}"},), "max_tokens": 5, "stop": ()},
        "a body": {"messages": [{"role": "user", "content": f"card {MARKER}"}], "model": "guide"},
        "in a schema": {
            "messages": ({"role": "user", "content": "hello"},),
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": (MARKER,)}}},
        },
        "what no body is": {"messages": 5},
        "over the cap": {"messages": ({"role": "user", "content": "hi"},), "max_tokens": 100_000},
        "a tool's": {"messages": ({"role": "tool", "content": MARKER, "tool_call_id": "1"},)},
    }
    for name, payload in payloads.items():
        forward = Forward(
            request=ids.request_id(),
            key=house.api_keys["acme"],
            task="generate",
            model="guide",
            texts=("hello",),
            payload=codec.pack(payload),
            stream=False,
            max_tokens=0,
            declared=Level.PUBLIC,
            no_store=True,
            batch=False,
            trace="",
            subject="",
        )
        conversation: Conversation = await evil.bus.converse(subjects.ask(evil.parts.recorder._me), session.seal(forward))  # type: ignore[arg-type]
        said = []
        while not said or (not isinstance(said[-1], Failed) and said[-1].KIND != "done"):
            frame = await conversation.next(10)
            assert frame is not None, name
            said.append(session.open(frame, *MESSAGES))
        placed = [message for message in said if isinstance(message, Placed)]
        if isinstance(said[-1], Failed):
            assert name in ("what no body is", "over the cap", "a tool's"), said
        else:
            assert placed[0].level is Level.RESTRICTED and placed[0].agent == "onprem", name
    assert not [run for name, ran in runs.items() if name != "onprem" for run in ran if MARKER.encode() in run.payload]

"""Law: a request has one path. Hub and site answer alike: status, headers, body, and the record that stays.

Mutation that turns it red: leave a field out of `Recorder._ended`, or a header out of `outgoing.headers`, for one of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from sync.audit import chain, kinds
from tests.support.house import House, Node

CASES: Mapping[str, tuple[str, dict[str, object], dict[str, str]]] = {
    "a chat": ("/v1/chat/completions", {"model": "guide", "messages": [{"role": "user", "content": "hello there"}]}, {}),
    "a stream": (
        "/v1/chat/completions",
        {"model": "guide", "stream": True, "messages": [{"role": "user", "content": "hello there"}]},
        {},
    ),
    "usage in a stream": (
        "/v1/chat/completions",
        {
            "model": "guide",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "hi"}],
        },
        {},
    ),
    "what is restricted": (
        "/v1/chat/completions",
        {"model": "guide", "messages": [{"role": "user", "content": "My card is 4111 1111 1111 1111."}]},
        {},
    ),
    "a declared level": (
        "/v1/chat/completions",
        {"model": "guide", "messages": [{"role": "user", "content": "hi"}]},
        {"x-ringfence-level": "confidential"},
    ),
    "a level that is none": (
        "/v1/chat/completions",
        {"model": "guide", "messages": [{"role": "user", "content": "hi"}]},
        {"x-ringfence-level": "sehr geheim"},
    ),
    "a model that does not exist": ("/v1/chat/completions", {"model": "no", "messages": [{"role": "user", "content": "hi"}]}, {}),
    "a model for another task": ("/v1/embeddings", {"model": "guide", "input": "hi"}, {}),
    "no messages": ("/v1/chat/completions", {"model": "guide", "messages": []}, {}),
    "more tokens than may be": (
        "/v1/chat/completions",
        {"model": "guide", "max_tokens": 10**6, "messages": [{"role": "user", "content": "hi"}]},
        {},
    ),
    "a body that is none": ("/v1/chat/completions", {"messages": 5}, {}),
    "fields that change nothing": (
        "/v1/chat/completions",
        {"model": "guide", "user": "u", "temprature": 1, "messages": [{"role": "user", "content": "hi"}]},
        {},
    ),
    "what is not supported": (
        "/v1/chat/completions",
        {"model": "guide", "tools": [{"type": "function"}], "messages": [{"role": "user", "content": "hi"}]},
        {},
    ),
    "classification": ("/v1/classify", {"input": "write to jane@example.org"}, {}),
    "an explanation": ("/v1/decisions", {"messages": [{"role": "user", "content": "hello"}]}, {}),
    "no answer is kept": (
        "/v1/chat/completions",
        {"model": "guide", "messages": [{"role": "user", "content": "hi"}]},
        {"cache-control": "no-store"},
    ),
}
OF_THE_SITE_ALONE = {"x-ringfence-mode"}
"""A hub stands in no relation to a hub."""
VARYING = {"date", "content-length", "x-request-id", "x-ringfence-decision"}
VARYING_FIELDS = {"request", "decision", "key", "ms", "via", "mode", "contact_age_s", "prompt_digest", "answer_digest"}


@pytest.mark.parametrize("name", CASES)
async def test_hub_and_site_answer_alike_header_by_header_and_record_field_by_field(house: House, name: str) -> None:
    path, body, headers = CASES[name]
    at_hub = await house.post(path, body, headers=headers)
    at_site = await house.post(path, body, at="onprem", headers=headers)
    hub_status, hub_headers, hub_body = at_hub
    site_status, site_headers, site_body = at_site
    assert site_status == hub_status, site_body
    assert _plain(site_body) == _plain(hub_body)
    placed = {"x-ringfence-zone", "x-ringfence-region", "x-ringfence-agent"}
    assert _named(site_headers) - OF_THE_SITE_ALONE == _named(hub_headers)
    for header in _named(hub_headers) - placed - VARYING:
        assert site_headers[header] == hub_headers[header], header
    await house.settled()
    hub_records, site_records = _own(house.hub), _own(house.sites["onprem"])
    assert [entry.kind for entry in site_records] == [entry.kind for entry in hub_records]
    for ours, theirs in zip(site_records, hub_records, strict=True):
        site_only = {"mode", "contact_age_s"}
        assert set(ours.fields) - site_only == set(theirs.fields), ours.kind
        for field in set(theirs.fields) - VARYING_FIELDS - {"agent", "zone", "region", "tried"}:
            assert ours.fields[field] == theirs.fields[field], f"{ours.kind}.{field}"


def _own(node: Node) -> list[chain.Entry]:
    return [entry for entry in node.records() if entry.kind in (kinds.DECIDED, kinds.TRIED, kinds.REQUEST)]


def _named(headers: Mapping[str, str]) -> set[str]:
    return {name.lower() for name in headers}


def _plain(body: bytes) -> object:
    """A body without what differs from one request to the next."""
    text = body.decode()
    events = [line.removeprefix("data: ") for line in text.split("\n\n")] if text.startswith("data:") else [text]
    return [_without(json.loads(event)) if event.startswith("{") else event for event in events]


def _without(told: object) -> object:
    if isinstance(told, dict):
        return {k: _without(v) for k, v in told.items() if k not in ("id", "created", "request_id", "plan", "usage")}
    return [_without(item) for item in told] if isinstance(told, list) else told

"""One minor version apart: what the version before said is read, and what is said to it is what it knows.

The vectors are frames as 0.1 made them, one of each kind; they are never made anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from sync.bundle import patch, snapshot
from sync.kit.ids import TenantId
from sync.wire import codec, messages, renewal
from tests.support import builders

VECTORS = {
    name: bytes.fromhex(frame) for name, frame in json.loads((Path(__file__).parent / "vectors-0.1.json").read_text()).items()
}
KINDS = {
    kind.KIND: kind
    for module in (messages, snapshot, patch, renewal)
    for kind in vars(module).values()
    if isinstance(getattr(kind, "KIND", None), str)
}


@pytest.mark.parametrize("name", VECTORS)
def test_what_the_version_before_said_is_read_and_said_again_in_its_bytes(name: str) -> None:
    frame = VECTORS[name]
    message = codec.decode(frame, KINDS[codec.unpack(frame)[1]])
    assert codec.encode(message) == frame


def test_what_it_does_not_know_is_said_only_where_it_is_used() -> None:
    """An agent for some tenants is refused by a side that would give it work of all; a beat off trial is read by both."""
    bundle = codec.decode(VECTORS["bundle"], snapshot.Bundle)
    agents = tuple(builders.replaced(agent, tenants=(TenantId("acme"),)) for agent in bundle.agents)
    told = codec.unpack(codec.encode(builders.replaced(bundle, agents=agents)))[2]
    assert all(agent["tenants"] == ("acme",) for agent in told["agents"])
    assert all("tenants" not in agent for agent in codec.unpack(VECTORS["bundle"])[2]["agents"])
    own = builders.replaced(bundle.tenants[0].classification, budget_words=7)
    tenants = (builders.replaced(bundle.tenants[0], classification=own),)
    (tenant,) = codec.unpack(codec.encode(builders.replaced(bundle, tenants=tenants)))[2]["tenants"]
    assert tenant["classification"]["budget_words"] == 7
    assert "budget_words" not in codec.unpack(VECTORS["bundle"])[2]["tenants"][0]["classification"]
    beat = codec.decode(VECTORS["beat"], messages.Beat)
    assert not beat.on_trial and not beat.failed_release
    assert "on_trial" in codec.unpack(codec.encode(builders.replaced(beat, on_trial=True)))[2]


def test_a_field_that_was_there_in_the_version_before_is_always_written() -> None:
    """A plain default is left out of a frame, so a field may have one only where the version before did not know it."""
    for name, frame in VECTORS.items():
        _, kind, body = codec.unpack(frame)
        for field in msgspec.structs.fields(KINDS[kind]):
            if field.name in body:
                assert field.default is msgspec.NODEFAULT, f"{name}.{field.name}"


def test_a_plain_default_is_one_that_is_recognised_by_identity() -> None:
    """msgspec leaves out what *is* the default: an equal float or a large number would be written, and refused by 0.1."""
    for kind in (*KINDS.values(), messages.Ticket, snapshot.Agent, snapshot.Tenant, snapshot.Classification):
        for field in msgspec.structs.fields(kind):
            default = field.default
            if default is msgspec.NODEFAULT:
                continue
            small = isinstance(default, int) and -5 <= default <= 256
            assert default is None or small or default in ("", b"", ()), f"{kind.__name__}.{field.name}"

"""Sessions: a broker in between sees only routing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync.crypto import keyring
from sync.kit import errors
from sync.kit.clock import ManualClock
from sync.kit.ids import AgentId, RequestId
from sync.wire import codec
from sync.wire.messages import Accepted, Run, Sealed
from sync.wire.session import LIFETIME_S, AgentSessions, HubSessions
from tests.support import builders

A, B = AgentId("a"), AgentId("b")


@pytest.fixture
def hub(tmp_path: Path) -> keyring.Keyring:
    return keyring.load_or_create(tmp_path / "hub.json")


def test_a_run_goes_out_and_a_reply_comes_back(hub: keyring.Keyring, keys: keyring.Keyring, clock: ManualClock) -> None:
    out = HubSessions(hub.signer, clock).to(A, keys.opener.public_key)
    frame = out.seal(builders.run())
    assert b"hello" not in frame
    session, run = AgentSessions(A, keys.opener, hub.signer.public_key, clock).open(frame, Run)
    assert run == builders.run()
    assert out.open(session.seal(Accepted(run.request)), Accepted) == Accepted(run.request)


def test_what_is_sealed_to_one_agent_opens_at_no_other(
    hub: keyring.Keyring, keys: keyring.Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    frame = HubSessions(hub.signer, clock).to(A, keys.opener.public_key).seal(builders.run())
    other = keyring.load_or_create(tmp_path / "other.json")
    for me, opener in ((B, keys.opener), (A, other.opener), (B, other.opener)):
        with pytest.raises(errors.Corrupt):
            AgentSessions(me, opener, hub.signer.public_key, clock).open(frame, Run)


def test_a_frame_of_the_one_direction_does_not_open_as_the_other(
    hub: keyring.Keyring, keys: keyring.Keyring, clock: ManualClock
) -> None:
    out = HubSessions(hub.signer, clock).to(A, keys.opener.public_key)
    with pytest.raises(errors.Corrupt):
        out.open(out.seal(Accepted(RequestId("r"))), Accepted)


def test_a_session_that_the_hub_did_not_sign_is_refused(
    keys: keyring.Keyring, hub: keyring.Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    impostor = keyring.load_or_create(tmp_path / "impostor.json")
    frame = HubSessions(impostor.signer, clock).to(A, keys.opener.public_key).seal(builders.run())
    with pytest.raises(errors.Corrupt, match="signature"):
        AgentSessions(A, keys.opener, hub.signer.public_key, clock).open(frame, Run)


def test_a_session_is_used_for_at_most_an_hour(hub: keyring.Keyring, keys: keyring.Keyring, clock: ManualClock) -> None:
    sessions = HubSessions(hub.signer, clock)
    agent = AgentSessions(A, keys.opener, hub.signer.public_key, clock)
    first = sessions.to(A, keys.opener.public_key)
    frame = first.seal(builders.run())
    agent.open(frame, Run)
    assert sessions.to(A, keys.opener.public_key) is first
    clock.advance(LIFETIME_S + 1)
    assert sessions.to(A, keys.opener.public_key) is not first
    agent.open(frame, Run)  # what was under way still opens
    clock.advance(LIFETIME_S)
    with pytest.raises(errors.Corrupt, match="over"):
        agent.open(frame, Run)


@pytest.mark.parametrize("place", range(0, 900, 37))
def test_a_flipped_bit_is_refused(place: int, hub: keyring.Keyring, keys: keyring.Keyring, clock: ManualClock) -> None:
    frame = bytearray(HubSessions(hub.signer, clock).to(A, keys.opener.public_key).seal(builders.run()))
    frame[place % len(frame)] ^= 1
    with pytest.raises(errors.Corrupt):
        AgentSessions(A, keys.opener, hub.signer.public_key, clock).open(bytes(frame), Run)


def test_the_oldest_sessions_are_forgotten_first(hub: keyring.Keyring, keys: keyring.Keyring, clock: ManualClock) -> None:
    agent = AgentSessions(A, keys.opener, hub.signer.public_key, clock)
    for _ in range(300):
        agent.open(HubSessions(hub.signer, clock).to(A, keys.opener.public_key).seal(Accepted(RequestId("r"))), Accepted)
    assert len(agent._sessions) == 256


def test_a_sealed_frame_shows_only_its_session(hub: keyring.Keyring, keys: keyring.Keyring, clock: ManualClock) -> None:
    sealed = codec.decode(HubSessions(hub.signer, clock).to(A, keys.opener.public_key).seal(builders.run()), Sealed)
    assert set(Sealed.__slots__) == {"session", "key", "signature", "box"}
    assert b"acme" not in sealed.box

"""Who comes in, who renews, and who is locked: the hub's own rules, over a real database. Each invariant by its words."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.authority import authority as authorities
from orchestrator.distribution.rollout import Rollout, waves
from orchestrator.fleet import invitations
from orchestrator.fleet.enrolment import Addresses, Enrolment, Terms
from orchestrator.fleet.invitations import Invitation, TokenRefused
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents, SqlInvitations
from orchestrator.store.ledger import SqlLedger
from sync.bus.memory import Exchange, MemoryBus
from sync.bus.port import Incoming
from sync.crypto import archive, authority, sealing, signing
from sync.crypto.keyring import Keyring
from sync.kit import errors
from sync.kit.clock import ManualClock
from sync.kit.faults import Fault, Faults
from sync.kit.ids import AgentId, Epoch, Region, SiteId, TenantId
from sync.kit.metrics import Registry
from sync.wire import codec, enrolment, invitation, renewal, subjects
from sync.wire.levels import Zone
from sync.wire.messages import Beat, OrderTaken

PEPPER = bytes(32)
DAY_S = 86_400.0


class Agent:
    """One that has keys, and asks with them."""

    def __init__(self, name: str = "") -> None:
        self.signer, self.opener = signing.Signer(signing.new_seed()), sealing.Opener(sealing.new_private())
        self.key = authority.new_key()
        self.chain = b""
        self.name = name

    def request(self) -> bytes:
        asked = enrolment.Request(self.name, self.signer.public_key, self.opener.public_key, authority.request(self.key))
        return enrolment.write_request(asked)

    def accept(self, data: bytes) -> enrolment.Admission:
        got = enrolment.open_admission(data, self.opener)
        self.chain = got.certificate
        return got

    def renewal(self, key: bytes, name: str = "branch-1") -> bytes:
        return renewal.ask(AgentId(name), self.chain, self.key, authority.request(key), self.signer)


class Desk:
    """The hub's side, with a clock that the test moves."""

    def __init__(self, folder: Path, keys: Keyring, clock: ManualClock) -> None:
        self.clock, self.keys = clock, keys
        self.database = Database(folder / "ringfence.db")
        self.agents, self.invited = SqlAgents(self.database), SqlInvitations(self.database)
        self.faults = Faults(folder / "faults.json", Registry(), clock)
        self.authority = authorities.create(folder / "authority.json", keys.at_rest, clock.wall())
        self.enrolment = Enrolment(
            agents=self.agents, invited=self.invited, authority=lambda: self.authority, signer=keys.signer, pepper=PEPPER,
            addresses=lambda: Addresses("tls://hub:4222", "https://hub:8701"), terms=Terms(DAY_S, 7 * DAY_S), clock=clock,
            faults=self.faults, incidents=SqlLedger(self.database),
        )  # fmt: skip

    async def invite(self, name: str = "branch-1", ttl_s: float = 3600.0) -> str:
        token = invitation.mint(self.authority.pin)
        made = Invitation(
            token.id, invitations.keyed(PEPPER, token), AgentId(name), SiteId("frankfurt"), Zone.ON_PREMISE, Region("eu-central-1"),
            (TenantId("acme"),), self.clock.wall() + ttl_s,
        )  # fmt: skip
        await self.invited.add(made)
        return token.text

    async def locked(self, name: str = "branch-1") -> str:
        found = await self.agents.find(AgentId(name))
        return found.locked if found else ""

    async def renew(self, agent: Agent, key: bytes) -> bytes:
        """The chain. Raises Refused as the hub says."""
        frame = agent.renewal(key)
        return renewal.read_answer(await self.enrolment.renew(frame), frame, self.keys.signer.public_key).certificate


@pytest.fixture
async def desk(tmp_path: Path, keys: Keyring, clock: ManualClock) -> AsyncIterator[Desk]:
    made = Desk(tmp_path, keys, clock)
    await made.database.open()
    yield made
    await made.database.close()


async def enrolled(desk: Desk) -> Agent:
    agent = Agent()
    agent.accept(await desk.enrolment.enrol(await desk.invite(), agent.request()))
    return agent


async def test_an_agent_is_its_invitations_whatever_it_claims(desk: Desk) -> None:
    agent = Agent("somebody-else")
    got = agent.accept(await desk.enrolment.enrol(await desk.invite(), agent.request()))
    assert (got.name, got.site, got.zone, got.region, got.tenants) == (
        "branch-1",
        "frankfurt",
        "on_premise",
        "eu-central-1",
        ("acme",),
    )
    told = authority.verify(got.certificate, got.trusted, now=desk.clock.wall())
    assert told.uri == "spiffe://ringfence/agent/branch-1"
    kept = await desk.agents.find(AgentId("branch-1"))
    assert kept is not None and kept.agent.tenants == ("acme",) and kept.certified.key == told.key


async def test_the_hub_keeps_no_token(desk: Desk, tmp_path: Path) -> None:
    token = invitation.parse(await desk.invite())
    await desk.database.checkpoint()
    assert all(token.secret.encode() not in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


async def test_of_two_at_once_exactly_one_comes_in_and_is_locked(desk: Desk) -> None:
    token, agents = await desk.invite(), [Agent(), Agent()]
    ended = await asyncio.gather(*(desk.enrolment.enrol(token, agent.request()) for agent in agents), return_exceptions=True)
    assert sorted(type(one) for one in ended if isinstance(one, Exception)) == [TokenRefused]
    assert "shown again with other keys" in await desk.locked() and Fault.TOKEN_REUSED.value in desk.faults.noted


async def test_a_used_token_is_one_alarm_however_often_it_is_shown(desk: Desk) -> None:
    token = await desk.invite()
    await desk.enrolment.enrol(token, Agent().request())
    for _ in range(5):
        with pytest.raises(TokenRefused, match="was used before"):
            await desk.enrolment.enrol(token, Agent().request())
    assert desk.faults.noted[Fault.TOKEN_REUSED.value].count == 1


async def test_too_many_at_once_are_told_to_come_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.fleet.enrolment.MOST_AT_ONCE", 2)
    tokens = [await desk.invite(f"branch-{n}") for n in range(4)]
    ended = await asyncio.gather(*(desk.enrolment.enrol(token, Agent().request()) for token in tokens), return_exceptions=True)
    assert [type(one).__name__ for one in ended] == ["bytes", "bytes", "Busy", "Busy"]
    assert await desk.enrolment.enrol(tokens[2], Agent().request()), "and then they come in"


async def test_whoever_lost_the_answer_gets_it_again(desk: Desk) -> None:
    token, agent = await desk.invite(), Agent()
    first = agent.accept(await desk.enrolment.enrol(token, agent.request()))
    agent.key = authority.new_key()
    second = agent.accept(await desk.enrolment.enrol(token, agent.request()))
    assert first.name == second.name and not await desk.locked()
    assert await desk.renew(agent, authority.new_key()), "and what it got last renews"


async def test_a_token_ends_with_its_time_and_with_its_agent(desk: Desk) -> None:
    token = await desk.invite(ttl_s=60)
    desk.clock.advance(61)
    with pytest.raises(TokenRefused, match="has expired"):
        await desk.enrolment.enrol(token, Agent().request())
    used, agent = await desk.invite(), Agent()
    await desk.enrolment.enrol(used, agent.request())
    await desk.agents.revoke(AgentId("branch-1"), at=1.0)
    with pytest.raises(TokenRefused, match="is revoked since"):
        await desk.enrolment.enrol(used, agent.request())
    with pytest.raises(errors.Misconfigured, match="There is an agent 'branch-2' already"):
        await desk.enrolment.enrol(await desk.invite("branch-2"), Agent().request())
        await desk.invite("branch-2")


async def test_a_certificate_is_followed_by_another_again_and_again(desk: Desk) -> None:
    agent = await enrolled(desk)
    for _ in range(3):
        desk.clock.advance(DAY_S / 2)
        following = authority.new_key()
        chain = await desk.renew(agent, following)
        agent.key, agent.chain = following, chain
    assert authority.verify(agent.chain, desk.authority.trusted, now=desk.clock.wall()).expires == desk.clock.wall() + DAY_S


async def test_a_lost_answer_to_a_renewal_is_given_again(desk: Desk) -> None:
    agent, following = await enrolled(desk), authority.new_key()
    first, second = await desk.renew(agent, following), await desk.renew(agent, following)
    assert authority.key_of_certificate(first) == authority.key_of_certificate(second)
    agent.key, agent.chain = following, second
    assert await desk.renew(agent, authority.new_key())
    assert not await desk.locked()


async def test_a_certificate_that_was_followed_locks_its_agent_when_it_comes_back(desk: Desk) -> None:
    agent = await enrolled(desk)
    copy = Agent()
    copy.signer, copy.opener, copy.key, copy.chain = agent.signer, agent.opener, agent.key, agent.chain
    desk.clock.advance(DAY_S / 2)
    assert await desk.renew(agent, authority.new_key())
    with pytest.raises(errors.Refused, match="has a copy of these keys"):
        await desk.renew(copy, authority.new_key())
    assert "were copied" in await desk.locked() and Fault.KEYS_COPIED.value in desk.faults.noted
    with pytest.raises(errors.Refused, match="has locked this agent"):
        await desk.renew(agent, authority.new_key())


async def test_after_a_long_time_the_old_certificate_still_renews_but_not_for_ever(desk: Desk) -> None:
    agent = await enrolled(desk)
    desk.clock.advance(6 * DAY_S)
    following = authority.new_key()
    agent.chain, agent.key = await desk.renew(agent, following), following
    desk.clock.advance(9 * DAY_S)
    with pytest.raises(errors.Refused, match="ended too long ago"):
        await desk.renew(agent, authority.new_key())


async def test_who_proves_no_key_learns_nothing_of_the_fleet(desk: Desk) -> None:
    agent, stranger = await enrolled(desk), Agent()
    stranger.chain = agent.chain
    told = set()
    for asking, name in ((stranger, "branch-1"), (stranger, "nobody"), (agent, "nobody")):
        frame = asking.renewal(authority.new_key(), name)
        with pytest.raises(errors.Refused) as refused:
            renewal.read_answer(await desk.enrolment.renew(frame), frame, desk.keys.signer.public_key)
        told.add((refused.value.code, str(refused.value)))
    assert len(told) == 1 and not await desk.locked()


async def test_who_is_revoked_is_told_so(desk: Desk) -> None:
    agent = await enrolled(desk)
    await desk.agents.revoke(AgentId("branch-1"), at=1.0)
    with pytest.raises(errors.Refused, match="has revoked this agent"):
        await desk.renew(agent, authority.new_key())


# --- the authority's own file


def test_a_root_that_a_passphrase_keeps_is_of_no_use_without_it(tmp_path: Path, keys: Keyring) -> None:
    kept = archive.Passphrase("correct horse battery")
    made = authorities.create(tmp_path / "a.json", keys.at_rest, 1e9, kept)
    assert made.wrapper == "passphrase"
    with pytest.raises(archive.CannotUnlock, match="kept by a passphrase"):
        made.rotate_issuer(1e9, None)
    with pytest.raises(archive.CannotUnlock):
        made.rotate_issuer(1e9, archive.Passphrase("another passphrase"))
    assert made.rotate_issuer(1e9, kept).pin == made.pin
    assert made.rotate_root(1e9, kept).pin != made.pin


def test_an_authority_is_not_made_twice_nor_read_by_another_hub(tmp_path: Path, keys: Keyring) -> None:
    path = tmp_path / "a.json"
    authorities.create(path, keys.at_rest, 1e9)
    with pytest.raises(errors.Misconfigured, match="There is an authority"):
        authorities.create(path, keys.at_rest, 1e9)
    with pytest.raises(archive.CannotUnlock, match="of another hub"):
        authorities.load(path, bytes(32))
    path.write_text("{}")
    with pytest.raises(errors.Misconfigured, match="is damaged"):
        authorities.load(path, keys.at_rest)


# --- waves


@pytest.mark.parametrize(
    ("count", "share", "sizes"),
    [(10, 0.1, [1] * 10), (10, 0.25, [2, 2, 2, 2, 2]), (3, 0.1, [1, 1, 1]), (5, 1.0, [5]), (7, 0.5, [3, 3, 1])],
)
def test_a_wave_is_a_share_of_the_fleet_and_one_at_least(count: int, share: float, sizes: list[int]) -> None:
    agents = [AgentId(f"a{n}") for n in range(count)]
    made = waves(agents, share)
    assert [len(wave) for wave in made] == sizes and [agent for wave in made for agent in wave] == agents


class Fleet:
    """Agents that take orders over the bus in memory, and tell in their beats what becomes of them."""

    def __init__(self, clock: ManualClock, fails: tuple[str, ...]) -> None:
        self.bus, self.hub = MemoryBus(exchange := Exchange()), MemoryBus(exchange)
        self.fails = fails
        self.ordered: list[str] = []
        self.lives: dict[str, int] = {}
        self.rollout = Rollout(self.hub, signing.Signer(signing.new_seed()), clock, "0.2.0", 60)

    async def join(self, *names: str) -> None:
        await self.rollout.watch()
        for name in names:
            await self.bus.subscribe(subjects.control(AgentId(name)), functools.partial(self._take, name))
            await self.beat(name, "0.1.0", failed="0.2.0")

    async def beat(self, name: str, version: str, *, failed: str = "", on_trial: bool = False) -> None:
        boot = f"life {self.lives.setdefault(name, 0)}"
        told = Beat(
            agent=AgentId(name),
            boot=boot,
            version=version,
            models=(),
            running=0,
            queued=0,
            capacity=1,
            latency_ms=0.0,
            bundle_serial=1,
            journal_epoch=Epoch("e"),
            journal_next=0,
            journal_receipted=0,
            journal_proved=0,
            on_trial=on_trial,
            failed_release=failed,
        )
        await self.bus.publish(subjects.beat(AgentId(name)), codec.encode(told))

    async def _take(self, name: str, incoming: Incoming) -> None:
        self.ordered.append(name)
        await incoming.respond(codec.encode(OrderTaken("", "")))
        self.lives[name] += 1
        await self.beat(name, "0.2.0", on_trial=True)
        if name in self.fails:
            self.lives[name] += 1
            await self.beat(name, "0.1.0", failed="0.2.0")
        else:
            await self.beat(name, "0.2.0")


async def test_after_a_failure_no_further_agent_is_asked(clock: ManualClock) -> None:
    """One that failed with this release before, and is ordered again, is judged by what comes of it now."""
    fleet = Fleet(clock, fails=("c",))
    await fleet.join("a", "b", "c", "d", "e", "f")
    plan = [[AgentId(name) for name in wave] for wave in ("ab", "cd", "ef")]
    told = [outcome async for wave in fleet.rollout.run(plan) for outcome in wave]
    assert [(outcome.agent, outcome.state.value) for outcome in told] == [
        ("a", "upgraded"),
        ("b", "upgraded"),
        ("c", "failed"),
        ("d", "upgraded"),
    ]
    assert told[2].why == "it was not healthy, and runs 0.1.0 again"
    assert sorted(fleet.ordered) == ["a", "b", "c", "d"]


async def test_an_agent_that_is_not_heard_stops_a_rollout(clock: ManualClock) -> None:
    fleet = Fleet(clock, fails=())
    await fleet.join("a")
    (outcome,) = [outcome async for wave in fleet.rollout.run([[AgentId("gone")], [AgentId("a")]]) for outcome in wave]
    assert "not heard" in outcome.why and not fleet.ordered

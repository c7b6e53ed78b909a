"""The agent's parts: guard, cache, runner, repository, text."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.identity import identity
from edge_agent.inference import manifest
from edge_agent.inference.generate import chat_template
from edge_agent.inference.port import BadPayload, ContextExceeded
from edge_agent.inference.repository.lifecycle import Loaded
from edge_agent.inference.text import StopStrings, Tokens
from edge_agent.work.cache import Answer, AnswerCache
from edge_agent.work.guard import Guard
from edge_agent.work.runner import Runner
from sync.audit import chain
from sync.audit.journal import Journal
from sync.bundle import snapshot
from sync.crypto import keyring, signing
from sync.kit import errors
from sync.kit.clock import ManualClock
from sync.kit.ids import AgentId, PrincipalId, RequestId, SiteId, TenantId
from sync.wire.levels import CacheScope, Zone
from sync.wire.messages import Accepted, Chunk, Done, Failed
from tests.support import asking, builders, modelling, running
from tests.support.modelling import CALLER

ME, SITE = AgentId("onprem"), SiteId("frankfurt")
GUIDE = running.BUILT / "guide" / "1"


@pytest.fixture
def guard(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> Guard:
    made = Guard(tmp_path, ME, SITE, keys.signer.public_key, keys.at_rest, clock, lambda *_: None)
    made.take(snapshot.sign(builders.bundle(), keys.signer))
    return made


@pytest.fixture
def cache(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock):
    made = AnswerCache(tmp_path / "cache.db", keys.at_rest, clock, max_bytes=1 << 20)
    yield made
    made.close()


# --- guard


def test_a_forged_damaged_or_older_bundle_is_refused_and_the_last_good_one_stays(guard: Guard, keys: keyring.Keyring) -> None:
    good = guard.current
    forged = snapshot.sign(builders.bundle(serial=9), signing.Signer(signing.new_seed()))
    damaged = bytearray(snapshot.sign(builders.bundle(serial=9), keys.signer))
    damaged[150] ^= 1
    for frame in (forged, bytes(damaged), b"nothing"):
        with pytest.raises(errors.Corrupt):
            guard.take(frame)
    assert not guard.take(snapshot.sign(builders.bundle(serial=1), keys.signer))
    assert guard.current is good


def test_the_last_good_bundle_is_on_disk_encrypted(guard: Guard, tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
    assert b"acme" not in (tmp_path / "bundle").read_bytes()
    again = Guard(tmp_path, ME, SITE, keys.signer.public_key, keys.at_rest, clock, lambda *_: None)
    again.load()
    assert again.current.bundle == guard.current.bundle
    (tmp_path / "bundle").write_bytes(b"damaged")
    last = Guard(tmp_path, ME, SITE, keys.signer.public_key, keys.at_rest, clock, lambda *_: None)
    last.load()
    assert last.current.serial == 0


# --- cache


async def test_an_answer_is_found_only_by_the_same_owner_model_and_request(cache: AnswerCache) -> None:
    run = builders.run()
    answer = Answer(b"result", "text", 1, 2, "stop")
    key = cache.key(run, "model-a")
    assert key is not None
    assert await cache.find(key) is None
    await cache.keep(key, answer, 60)
    assert await cache.find(key) == answer
    others = [
        cache.key(run, "model-b"), cache.key(builders.run(ticket=builders.ticket(tenant=TenantId("rival"))), "model-a"),
        cache.key(builders.run(payload=b"\x80"), "model-a"), cache.key(builders.run(folder="other"), "model-a"),
        cache.key(builders.run(cache=CacheScope.PRINCIPAL), "model-a"),
    ]  # fmt: skip
    assert len({key, *others}) == 6
    assert cache.key(builders.run(cache=CacheScope.NONE), "model-a") is None
    mine = cache.key(builders.run(cache=CacheScope.PRINCIPAL), "m")
    assert mine != cache.key(builders.run(cache=CacheScope.PRINCIPAL, ticket=builders.ticket(principal=PrincipalId("other"))), "m")
    assert cache.key(run, "m") == cache.key(builders.run(ticket=builders.ticket(principal=PrincipalId("other"))), "m")


async def test_answers_expire_and_make_room(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
    cache = AnswerCache(tmp_path / "c.db", keys.at_rest, clock, max_bytes=5000)
    found = []
    for n in range(10):
        key = cache.key(builders.run(payload=bytes([n])), "m")
        assert key is not None
        clock.advance(1)
        await cache.keep(key, Answer(b"x" * 1000, "", 1, 1, "stop"), 60)
        found.append(key)
    kept = [key for key in found if await cache.find(key)]
    assert kept == found[-4:]
    clock.advance(61)
    assert not [key for key in found if await cache.find(key)]
    cache.close()


async def test_neither_a_prompt_nor_an_answer_is_readable_on_disk_and_a_damaged_row_is_a_miss(
    cache: AnswerCache, tmp_path: Path
) -> None:
    key = cache.key(builders.run(), "m")
    assert key is not None
    await cache.keep(key, Answer(b"the answer", "the answer", 1, 1, "stop"), 60)
    for path in tmp_path.glob("cache.db*"):
        assert b"the answer" not in path.read_bytes() and b"hello" not in path.read_bytes()
    cache._database.execute("update answers set sealed = zeroblob(64)")
    assert await cache.find(key) is None


def test_a_cache_that_is_no_database_is_started_anew(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> None:
    (tmp_path / "c.db").write_bytes(b"garbage" * 1000)
    AnswerCache(tmp_path / "c.db", keys.at_rest, clock, max_bytes=10).close()


# --- runner


@pytest.fixture
async def runner(
    tmp_path: Path, guard: Guard, cache: AnswerCache, keys: keyring.Keyring, clock: ManualClock
) -> AsyncIterator[Runner]:
    models = tmp_path / "models"
    for name, options in {"guide": {}, "slow": {"words": 1000, "every_ms": 5}}.items():
        folder = models / name / "1"
        folder.mkdir(parents=True)
        told = {"name": name, "version": "1", "task": "generate", "backend": "noop", "files": {}, "noop": options}
        (folder / "manifest.json").write_text(json.dumps(told))
    found = modelling.repository(models)
    assert found.mistakes == []
    journal = Journal(tmp_path / "journal.db", ME, keys.signer, clock)
    journal.open()
    yield Runner(guard=guard, repository=found, cache=cache, journal=journal, clock=clock)
    journal.close()
    await found.close()


async def served(runner: Runner, run) -> list:
    replies: list = []

    async def reply(message) -> None:
        replies.append(message)

    runner.start(run, reply)
    for task in list(runner.at_work.values()):
        await asyncio.wait([task])
    return replies


def records(runner: Runner) -> list[dict[str, object]]:
    entries = [chain.decode(data) for data in runner._journal.read(0, 1000)]
    return [entry.fields for entry in entries if entry.kind == "run"]


async def test_a_run_is_answered_and_recorded(runner: Runner) -> None:
    (done,) = await served(runner, builders.run())
    assert isinstance(done, Done) and not done.cached
    (fields,) = records(runner)
    assert (fields["outcome"], fields["request"]) == ("done", "req_1")
    assert "hello" not in str(fields)


async def test_a_request_that_comes_twice_runs_once(runner: Runner) -> None:
    assert len(await served(runner, builders.run())) == 1
    assert await served(runner, builders.run()) == []
    assert len(records(runner)) == 1


async def test_a_stream_is_the_same_from_the_cache(runner: Runner) -> None:
    first = await served(runner, builders.run(stream=True))
    second = await served(runner, builders.run(request=RequestId("req_2"), stream=True))
    for replies, cached in ((first, False), (second, True)):
        *chunks, done = replies
        assert all(isinstance(chunk, Chunk) for chunk in chunks)
        assert [chunk.sequence for chunk in chunks] == list(range(done.chunks))
        assert "".join(chunk.text for chunk in chunks) == "ok "
        assert done.cached is cached


REFUSED = {
    "a ticket of elsewhere": (builders.run(ticket=builders.ticket(zones=(Zone.PUBLIC_CLOUD,))), "outside_ticket", True),
    "a level that may not run here": (builders.run(ticket=builders.ticket(tenant=TenantId("x"))), "tenant_unknown", True),
    "a model that is not here": (builders.run(folder="none"), "model_not_here", True),
    "a task that the model is not for": (builders.run(task="embed"), "model_task_mismatch", False),
    "a payload that is no map": (builders.run(payload=b"\x91\x01", cache=CacheScope.NONE), "bad_payload", False),
    "a deadline that has passed": (builders.run(deadline=1.0), "deadline_exceeded", True),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_nothing_runs_that_should_not_and_it_is_recorded(runner: Runner, name: str) -> None:
    run, code, retryable = REFUSED[name]
    (failed,) = await served(runner, run)
    assert isinstance(failed, Failed)
    assert (failed.code, failed.retryable) == (code, retryable)
    assert [fields["outcome"] for fields in records(runner)] == [code]


async def test_a_cancel_ends_the_work_and_leaves_a_record_too(runner: Runner) -> None:
    replies: list = []
    first = asyncio.Event()

    async def reply(message) -> None:
        replies.append(message)
        first.set()

    runner.start(builders.run(folder="slow", stream=True, deadline=1_700_000_060.0), reply)
    await asyncio.wait_for(first.wait(), 10)
    (task,) = runner.at_work.values()
    runner.cancel(RequestId("req_1"))
    runner.cancel(RequestId("unknown"))
    await asyncio.wait([task])
    assert not any(isinstance(message, Done) for message in replies)
    assert [fields["outcome"] for fields in records(runner)] == ["cancelled"]


async def test_a_long_run_is_said_to_be_accepted(runner: Runner) -> None:
    replies: list = []
    seen = asyncio.Event()

    async def reply(message) -> None:
        replies.append(message)
        if isinstance(message, Accepted):
            seen.set()

    runner.start(builders.run(folder="slow"), reply)
    await asyncio.wait_for(seen.wait(), 10)
    await runner.stop(0.01)
    assert not runner.at_work


# --- generation


@pytest.fixture
async def guide(tmp_path: Path) -> AsyncIterator[Loaded]:
    shutil.copytree(running.BUILT, tmp_path / "models")
    modelling.sign_all(tmp_path / "models")
    found = modelling.repository(tmp_path / "models")
    async with found.lease("guide") as loaded:
        yield loaded
    await found.close()


async def test_pieces_add_up_to_the_text(guide: Loaded) -> None:
    heard = asking.Heard()
    result = await guide.engine.run(asking.generate("What is a zone?"), heard, CALLER)
    assert "".join(piece.text for piece in heard.pieces) == result.text != ""
    again = await guide.engine.run(asking.generate("What is a zone?"), None, CALLER)
    assert (again.text, again.completion_tokens) == (result.text, result.completion_tokens)


async def test_a_prompt_that_is_too_long_is_refused(guide: Loaded) -> None:
    with pytest.raises(ContextExceeded):
        await guide.engine.run(asking.generate("word " * 5000), None, CALLER)
    for wrong in ({}, {**builders.payload("x"), "max_tokens": 0}, {**builders.payload("x"), "messages": ({"role": "user"},)}):
        with pytest.raises(BadPayload):
            await guide.engine.run(asking.request("generate", **wrong), None, CALLER)


# --- text


@given(st.text(alphabet="aé😀漢\n ", max_size=40))
def test_pieces_of_a_detokenizer_add_up_and_hold_no_half_character(text: str) -> None:
    tokens = Tokens(GUIDE / "tokenizer.json")
    add = tokens.stream()
    pieces = [add(i) for i in tokens.encode(text, special=False)]
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)


@given(st.text(alphabet="abc", max_size=30), st.lists(st.text(alphabet="abc", min_size=1, max_size=3), max_size=3), st.data())
def test_a_stop_string_is_never_let_out_however_the_text_is_cut(text: str, stops: list[str], data) -> None:
    stop, out, rest = StopStrings(stops), "", text
    while rest and not stop.hit:
        n = data.draw(st.integers(1, len(rest)))
        out, rest = out + stop.add(rest[:n]), rest[n:]
    out += stop.rest()
    found = [at for at in (text.find(s) for s in stops) if at >= 0]
    if not found:
        assert out == text
    assert not any(s in out for s in stops)
    assert text.startswith(out)


def test_a_chat_template_runs_in_a_sandbox() -> None:
    render = chat_template.ChatTemplate("{% for m in messages %}{{ m['content'] }}{% endfor %}").render
    assert render([{"role": "user", "content": "{{ 7 * 7 }}"}]) == "{{ 7 * 7 }}"
    for source in ("{{ messages.__class__.__mro__ }}", "{{ raise_exception('no') }}", "{{ messages[9].content }}"):
        with pytest.raises(BadPayload):
            chat_template.ChatTemplate(source).render([{"role": "user", "content": "x"}])
    with pytest.raises(manifest.BadFolder):
        chat_template.ChatTemplate("{% for %}")


# --- identity


def test_an_agent_is_admitted_step_by_step_and_told_which_is_missing(tmp_path: Path, keys: keyring.Keyring) -> None:
    from orchestrator.authority import authority as authorities
    from sync.crypto import authority
    from sync.wire import enrolment

    state = tmp_path / "state"
    with pytest.raises(errors.Misconfigured, match="begin with"):
        identity.load(state)
    asked = identity.request(state, "edge-1")
    again = identity.request(state, "edge-1")
    assert (again.signing_key, again.sealing_key) == (asked.signing_key, asked.sealing_key)
    assert authority.key_of_request(again.certificate_request) == authority.key_of_request(asked.certificate_request)
    with pytest.raises(errors.Misconfigured, match="is of the agent"):
        identity.request(state, "edge-2")
    with pytest.raises(errors.Misconfigured, match="cannot name"):
        identity.request(tmp_path / "x", "Edge 1")
    with pytest.raises(errors.Misconfigured, match="not admitted yet"):
        identity.load(state)
    made = authorities.create(tmp_path / "authority.json", keys.at_rest, 1e9)
    chain = made.certify_agent(AgentId("edge-1"), asked.certificate_request, 1e9, 60)
    told = enrolment.Admission(
        "edge-1", keys.signer.public_key, "tls://x:1", "https://x:2", "dublin", "on_premise", "eu-west-1", (), chain, made.trusted
    )
    identity.accept(state, enrolment.seal_admission(told, asked.sealing_key))
    me = identity.load(state)
    assert me.login("").certificate == state / "certificate.pem" and not (state / "certificate-next.key").exists()
    with pytest.raises(errors.Misconfigured, match="without TLS to another machine"):
        me.login("nats://elsewhere:4222")
    assert (me.id, me.hub_key, me.admission.zone) == ("edge-1", keys.signer.public_key, "on_premise")

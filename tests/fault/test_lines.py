"""Lines, brokers and disks that fail while a site serves: nothing acknowledged is lost or doubled, and the fault has its name."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.authority import certificates
from sync.bundle import snapshot
from sync.bus.nats import NatsBus
from sync.crypto import keyring, signing
from sync.kit.crashpoints import VARIABLE
from sync.kit.faults import Fault
from sync.wire import codec, subjects
from tests.support import builders, interception, system
from tests.support import running as support
from tests.support.sites import SITE, Cuttable

DISK_MIB = 48


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cuttable]:
    made = Cuttable(tmp_path_factory.mktemp("lines"), SITE)
    yield made
    made.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cuttable]:
    """A site for a test that breaks it for good."""
    made = Cuttable(tmp_path, SITE)
    yield made
    made.close()


# --- the line


def _is_cut_again(sites: Cuttable) -> None:
    proxy = sites.proxies[SITE.name]
    for _ in range(3):
        before = proxy.passed
        support.eventually(lambda: proxy.passed > before + 3000, "something has gone out")  # noqa: B023 - called at once
        proxy.cut()
        proxy.mend()


def _goes_dark(sites: Cuttable) -> None:
    proxy = sites.proxies[SITE.name]
    proxy.go_dark()
    sites.await_mode(SITE, "offline")
    proxy.light_up()


def _is_slow(sites: Cuttable) -> None:
    sites.proxies[SITE.name].delay_s = 0.05


def _says_everything_twice(sites: Cuttable) -> None:
    folder, proxy = sites.system.agent(SITE.name), sites.proxies[SITE.name]
    proxy.twice = b"rf.v1."
    proxy.intercept(interception.Keys(sites.system.hub / "tls" / "server.pem", folder / "certificate.pem", folder / "trusted.pem"))


WHILE_IT_CATCHES_UP = {
    "the line is cut again and again": _is_cut_again,
    "the line goes dark": _goes_dark,
    "the line is slow": _is_slow,
    "everything is said twice": _says_everything_twice,
}


@pytest.mark.parametrize("name", WHILE_IT_CATCHES_UP)
def test_a_backlog_comes_once_and_in_order_while(sites: Cuttable, name: str) -> None:
    sites.await_mode(SITE, "online")
    proxy = sites.proxies[SITE.name]
    proxy.cut()
    served = sites.served(SITE, 120)
    proxy.mend()
    WHILE_IT_CATCHES_UP[name](sites)
    try:
        served += sites.served(SITE, 5)
        sites.check_once_and_in_order(SITE, served)
    finally:
        proxy.delay_s, proxy.twice = 0.0, b""
    if name == "everything is said twice":
        assert proxy.repeated > 0


# --- the broker and the hub's database


def test_a_broker_whose_storage_is_wiped_gets_again_what_only_it_had(own: Cuttable) -> None:
    """Killed as it had taken envelopes from the broker, and before it had stored them: then the broker's disk goes too."""
    running, name = own.system, SITE.name
    served = own.served(SITE, 3)
    running.stop("hub")
    running.own["hub"] = {VARIABLE: "ingest.received"}
    running.start_hub()
    hub = running.processes["hub"]
    support.eventually(lambda: own.served(SITE, 1) and hub.poll() is not None, "the hub dies with envelopes in its hands")
    served = _of_site(own)
    shutil.rmtree(running.hub / "nats")
    running.own.pop("hub")
    _start_hub(own)
    asyncio.run(running.wait_for_agents([name]))
    served += own.served(SITE, 3)
    own.check_once_and_in_order(SITE, served)


def _of_site(own: Cuttable) -> list[str]:
    """What the site's journal says that it has served, in order."""
    from sync.audit import chain

    with sqlite3.connect(f"file:{own.system.agent(SITE.name) / 'journal.db'}?mode=ro", uri=True) as journal:
        entries = [chain.decode(row[0]) for row in journal.execute("select entry from entries order by sequence")]
    return [str(entry.fields["request"]) for entry in entries if entry.kind == "run"]


def _start_hub(own: Cuttable) -> None:
    (own.system.hub / "hub-address.json").unlink(missing_ok=True)
    own.system.start_hub()
    asyncio.run(own.system.wait_for_hub())


def test_a_database_that_is_set_back_asks_again_for_what_it_had(own: Cuttable) -> None:
    """An hour-old copy is put in place, while agents have receipts and proofs from after it."""
    running, place = own.system, SITE.name
    served = own.served(SITE, 5)
    own.check_once_and_in_order(SITE, served)
    with sqlite3.connect(running.hub / "ringfence.db") as now, sqlite3.connect(running.folder / "hour-ago.db") as copy:
        now.backup(copy)
    copy.close()
    served += own.served(SITE, 20)
    own.check_once_and_in_order(SITE, served)
    proved = lambda: (told := own.status(SITE))["journal_proved"] == told["journal_records"]  # noqa: E731
    support.eventually(proved, "the agent has proofs of everything")
    running.stop("hub", signal.SIGKILL)
    for path in running.hub.glob("ringfence.db*"):
        path.unlink()
    shutil.copy(running.folder / "hour-ago.db", running.hub / "ringfence.db")
    _start_hub(own)
    asyncio.run(running.wait_for_agents([place]))
    served += own.served(SITE, 3)
    own.check_once_and_in_order(SITE, served)
    assert own.names_at_hub(Fault.LEDGER_RESTARTED)
    support.eventually(lambda: own.names_at_site(SITE, Fault.HUB_ASKS_AGAIN), "the agent says so too")
    support.eventually(proved, "the agent takes the proofs of the new generation")
    assert own.names_at_site(SITE, Fault.LEDGER_RESTARTED)


# --- disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", mounted], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the right to mount")
    yield mounted
    subprocess.run(["umount", "-l", mounted], check=True)


def _fill(disk: Path) -> Path:
    """Takes all the room that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


@pytest.mark.parametrize("whose", ["agent", "hub"])
def test_invariant_3_a_full_disk_refuses_and_recovers(disk: Path, tmp_path: Path, whose: str) -> None:
    made = Cuttable.__new__(Cuttable)
    made.system = system.System(tmp_path / "run", [SITE], support.models(tmp_path / "models"), support.CONFIGURATION)
    made.system.environment = {"RINGFENCE_CHECKPOINT_S": "1"}
    made.proxies = {}
    asyncio.run(made.system.prepare("acme"))
    folder = made.system.agent(SITE.name) if whose == "agent" else made.system.hub
    shutil.copytree(folder, disk / "state")
    shutil.rmtree(folder)
    folder.symlink_to(disk / "state")
    try:
        made.system.start()
        asyncio.run(made.system.wait_for_hub())
        asyncio.run(made.system.wait_for_agents([SITE.name]))
        served = made.served(SITE, 3)
        filler = _fill(disk)
        ask: Callable[[], int] = lambda: made.ask(SITE, model="quick")[0] if whose == "agent" else _ask_hub(made)  # noqa: E731
        refused = 0
        for _ in range(400):
            if ask() == 503:
                refused += 1
        assert refused, "the disk was not full"
        assert "Traceback" not in made.system.log(SITE.name if whose == "agent" else "hub").read_text()
        filler.unlink()
        support.eventually(lambda: ask() == 200, "it serves again when there is room")
        before = len(_of_site(made))
        made.served(SITE, 3)
        ran = _of_site(made)
        assert len(ran) == before + 3 and set(served) <= set(ran)
        made.check_once_and_in_order(SITE, ran)
        assert whose == "hub" or made.names_at_site(SITE, Fault.JOURNAL_WRITE_FAILED)
        assert whose == "agent" or (made.names_at_hub(Fault.JOURNAL_WRITE_FAILED) and made.names_at_hub(Fault.DISK_FULL))
    finally:
        made.system.stop_all()


def _ask_hub(made: Cuttable) -> int:
    import openai

    try:
        with support.client(made.system) as app:
            messages = [{"role": "user", "content": "hello"}]
            app.chat.completions.create(model="quick", messages=messages, extra_headers={"cache-control": "no-store"})  # type: ignore[call-overload]
            return 200
    except openai.APIStatusError as error:
        return error.status_code


# --- identities and bundles


def test_two_processes_with_one_identity_are_named_and_both_their_records_are_kept(own: Cuttable) -> None:
    running, name = own.system, SITE.name
    own.served(SITE, 3)
    running.stop(name)
    twin = system.Place("twin", SITE.zone, SITE.site, api=True)
    shutil.copytree(running.agent(name), running.agent(twin.name))
    running.places.append(twin)
    running.own[twin.name] = running.own[name]
    running.start_agent(name)
    running.start_agent(twin.name)
    for place in (SITE, twin):
        (running.agent(place.name) / "status.json").unlink(missing_ok=True)
        own.await_mode(place, "online")
        own.served(place, 5)
    support.eventually(lambda: own.names_at_hub(Fault.TWO_AGENTS), "the hub says that there are two")
    support.eventually(lambda: own.names_at_hub(Fault.LEDGER_FORK), "and that two records have one number")
    assert all(codec.decode(evidence, codec_envelope()).entries for evidence in own.incidents("fork")), "the other one is kept"
    running.stop(twin.name)
    gaps = support.command("ringfence", "audit", "gaps", "--state", running.hub)
    assert gaps.returncode == 1 and "fork" in gaps.stdout and "twin" in gaps.stdout
    assert "intact" in support.command("ringfence", "audit", "verify", "--state", running.hub).stdout


def codec_envelope() -> type:
    from sync.wire.messages import Envelope

    return Envelope


def _forged(bundle: snapshot.Bundle, _: signing.Signer) -> bytes:
    return snapshot.sign(_later(bundle), signing.Signer(bytes(32)))


def _damaged(bundle: snapshot.Bundle, hub: signing.Signer) -> bytes:
    return snapshot.sign(_later(bundle), hub)[:-10]


def _foreign(bundle: snapshot.Bundle, hub: signing.Signer) -> bytes:

    return snapshot.sign(builders.replaced(_later(bundle), site="dublin"), hub)


def _old(bundle: snapshot.Bundle, hub: signing.Signer) -> bytes:

    return snapshot.sign(builders.replaced(bundle, serial=bundle.serial - 1), hub)


def _later(bundle: snapshot.Bundle) -> snapshot.Bundle:

    return builders.replaced(bundle, serial=bundle.serial + 1000)


BUNDLES = {
    "forged": (_forged, Fault.BUNDLE_REFUSED), "damaged": (_damaged, Fault.BUNDLE_REFUSED), "of another site": (_foreign, Fault.BUNDLE_REFUSED),
    "old": (_old, Fault.BUNDLE_OLD),
}  # fmt: skip


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_that_is_not_to_be_had_leaves_the_last_good_one(sites: Cuttable, name: str) -> None:
    make, fault = BUNDLES[name]
    sites.await_mode(SITE, "online")
    before = sites.status(SITE)["bundle_serial"]
    keys = keyring.load(sites.system.hub / "hub-keys.json")
    seen = _count(sites, fault)

    async def exchange() -> None:
        whom = certificates.login(sites.system.hub / "tls", f"tls://127.0.0.1:{sites.system.nats_port}")
        bus = NatsBus(whom, "attacker")
        await bus.connect()
        frame = await bus.get(subjects.BUNDLE_BUCKET, "frankfurt")
        assert frame is not None
        good = codec.decode(codec.decode(frame, snapshot.Signed).bundle, snapshot.Bundle)
        await bus.put(subjects.BUNDLE_BUCKET, "frankfurt", make(good, keys.signer))
        await bus.publish(subjects.bundle("frankfurt"), b"")
        await asyncio.to_thread(lambda: support.eventually(lambda: _count(sites, fault) > seen, "the agent has refused it"))
        await bus.put(subjects.BUNDLE_BUCKET, "frankfurt", frame)
        await bus.close()

    asyncio.run(exchange())
    assert sites.status(SITE)["bundle_serial"] == before
    assert sites.names_at_site(SITE, fault)
    assert sites.served(SITE, 1)


def _count(sites: Cuttable, fault: Fault) -> int:
    path = sites.system.agent(SITE.name) / "faults.json"
    return int(json.loads(path.read_text()).get(fault.value, {}).get("count", 0)) if path.exists() else 0

"""Recovery: a hub that is destroyed, a ledger of a million records, an agent whose disk is lost."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from sync.crypto import keyring
from tests.support import running as support
from tests.support import system
from tests.support.hub import ask, at_hub, await_record
from tests.support.ledgers import Filling

MILLION = 1_000_000
RECOVERED_WITHIN_S = 300


def test_a_destroyed_hub_is_restored_and_gets_again_what_came_after_the_backup(tmp_path: Path) -> None:
    """The hub asks again: agents hold receipts from after the backup, and nothing is lost."""
    made = system.System(tmp_path / "run", [support.ONPREM], support.models(tmp_path / "models"), support.CONFIGURATION)
    made.environment = {"RINGFENCE_CHECKPOINT_S": "1"}
    phrase, wrong, archive = tmp_path / "phrase", tmp_path / "wrong", tmp_path / "hub.backup"
    phrase.write_text("a passphrase of some length\n")
    wrong.write_text("another passphrase of some length\n")
    asyncio.run(made.prepare("acme"))
    try:
        made.start()
        asyncio.run(made.wait_for_hub())
        asyncio.run(made.wait_for_agents([support.ONPREM.name]))
        before = ask(made, "before")
        await_record(made, before)
        assert "MiB before compression" in at_hub(made, "backup", "-o", archive, "--passphrase-file", phrase)
        after = [ask(made, "after") for _ in range(5)]
        for request in after:
            await_record(made, request)

        def proved() -> bool:
            told = json.loads((made.agent(support.ONPREM.name) / "status.json").read_text())
            return told["journal_proved"] == told["journal_records"]

        support.eventually(proved, "the agent has proofs of everything")
        made.stop("hub", signal.SIGKILL)
        shutil.rmtree(made.hub)
        restore = ("restore", archive, "--passphrase-file")
        assert "does not open this archive" in at_hub(made, *restore, wrong, code=2)
        cut = tmp_path / "cut.backup"
        cut.write_bytes(archive.read_bytes()[:-100])
        assert "damaged or cut off" in at_hub(made, "restore", cut, "--passphrase-file", phrase, code=2)
        assert "is no archive of Ringfence" in at_hub(made, "restore", phrase, "--passphrase-file", phrase, code=2)
        assert not made.hub.exists()
        assert "is restored" in at_hub(made, *restore, phrase)
        assert "is not empty" in at_hub(made, *restore, phrase, code=2)
        made.port = 0
        made.start_hub()
        asyncio.run(made.wait_for_hub())
        asyncio.run(made.wait_for_agents([support.ONPREM.name]))
        assert len(await_record(made, before)) == 2
        for request in after:
            # The run, which the agent has kept; the hub's own record of it went with its disk.
            await_record(made, request, count=1)
        assert "intact" in at_hub(made, "audit", "verify")
        doctor = support.command("ringfence", "doctor", "--state", made.hub).stdout
        assert "ledger_restarted" in doctor
        agent = support.command("ringfence-agent", "doctor", "--state", made.agent(support.ONPREM.name)).stdout
        assert "hub_asks_again" in agent
        last = ask(made, "goes on")
        await_record(made, last)
        support.eventually(proved, "the agent takes the proofs of the new generation")
    finally:
        made.stop_all()


@pytest.mark.timeout(RECOVERED_WITHIN_S + 120)  # the two minutes are for making it
def test_the_drill_a_ledger_of_a_million_records_is_restored_and_verified(tmp_path: Path) -> None:
    made = system.System(tmp_path / "run", [support.ONPREM], support.models(tmp_path / "models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    signer = keyring.load(made.hub / "hub-keys.json").signer

    async def fill() -> None:
        filling = Filling(made.hub, signer, {"request": "req_" + "0" * 26, "level": "internal", "outcome": "done"})
        await filling.database.open()
        for batch in filling.batches(MILLION):
            await filling.ledger.take(batch)
        await filling.checkpoints.sign()
        await filling.database.close()

    asyncio.run(fill())
    phrase, archive = tmp_path / "phrase", tmp_path / "hub.backup"
    phrase.write_text("a passphrase of some length\n")
    at_hub(made, "backup", "-o", archive, "--passphrase-file", phrase)
    shutil.rmtree(made.hub)

    async def recover() -> None:
        async with asyncio.timeout(RECOVERED_WITHIN_S):
            told = await asyncio.to_thread(at_hub, made, "restore", archive, "--passphrase-file", phrase)
            assert "is restored" in told
            made.start()
            await made.wait_for_hub()
            await made.wait_for_agents([support.ONPREM.name])
            told = await asyncio.to_thread(at_hub, made, "audit", "verify")
            assert int(re.search(r"intact: (\d+) records", told)[1]) >= MILLION  # type: ignore[index]

    try:
        asyncio.run(recover())
        await_record(made, ask(made, "it serves again"))
    finally:
        made.stop_all()


def test_an_agent_whose_disk_is_lost_is_rebuilt_from_the_hub(tmp_path: Path) -> None:
    """New keys under the same name; bundle and models come from the hub; what the old journal had is in the ledger already."""
    made = system.System(tmp_path / "run", [support.ONPREM], support.models(tmp_path / "models"), support.CONFIGURATION)
    made.environment = {"RINGFENCE_CHECKPOINT_S": "1"}
    asyncio.run(made.prepare("acme"))
    name, folder = support.ONPREM.name, made.agent(support.ONPREM.name)
    there = {"RINGFENCE_AGENT_STATE": str(folder), "RINGFENCE_AGENT_MODELS": str(made.models)}

    def at_agent(*arguments: object, code: int = 0) -> str:
        done = support.command("ringfence-agent", *arguments, cwd=tmp_path, **there)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return " ".join((done.stdout + done.stderr).split())

    try:
        made.start()
        asyncio.run(made.wait_for_hub())
        asyncio.run(made.wait_for_agents([name]))
        before = ask(made, "before")
        await_record(made, before)
        for model in ("guide", "quick"):
            at_hub(made, "models", "publish", tmp_path / "models" / model / "1")
        made.stop(name, signal.SIGKILL)
        shutil.rmtree(folder)
        shutil.rmtree(made.models)
        assert "There is no agent" in at_agent("rebuild", code=2)
        at_agent("enrol", "--name", name, "--request", tmp_path / "request.json")
        admit = (
            "agents",
            "approve",
            tmp_path / "request.json",
            "--zone",
            "on_premise",
            "--site",
            "frankfurt",
            "-o",
            tmp_path / "answer",
        )
        assert "--replace where its disk was lost" in at_hub(made, *admit, code=2)
        at_hub(made, *admit, "--replace")
        at_agent("enrol", "--response", tmp_path / "answer")
        told = support.eventually(lambda: _rebuilt(there, tmp_path), "the hub's broker knows the new agent")
        assert "guide, quick" in told and "The hub does not have" in told and "guide-embed" in told
        made.start_agent(name)
        asyncio.run(made.wait_for_agents([name]))
        after = ask(made, "after")
        await_record(made, after)
        await_record(made, before)
        assert "intact" in at_hub(made, "audit", "verify")
        epochs = {json.loads(line)["epoch"] for line in at_hub(made, "audit", "search", "--author", name, "--json").splitlines()}
        assert len(epochs) == 2, "a new disk is a new epoch"
    finally:
        made.stop_all()


def _rebuilt(there: dict[str, str], folder: Path) -> str:
    done = support.command("ringfence-agent", "rebuild", cwd=folder, **there)
    assert "Traceback" not in done.stderr
    return " ".join(done.stdout.split()) if done.returncode == 1 else ""

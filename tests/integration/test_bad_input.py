"""Bad input to the commands of audit, recovery and air gap: a sentence that says what to do, exit code 2, and nothing changed."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from sync.policy import authenticate
from tests.support import builders, system
from tests.support import running as support
from tests.support.sites import SITE


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> system.System:
    """A hub and an agent that are prepared and do not run; beside them some files that are not what they should be."""
    folder = tmp_path_factory.mktemp("bad")
    made = system.System(folder / "run", [SITE], support.models(folder / "models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    phrase = folder / "phrase"
    phrase.write_text("a passphrase of some length\n")
    (folder / "short").write_text("short\n")
    (folder / "other").write_text("another passphrase of some length\n")
    (folder / "noise").write_bytes(bytes(range(256)) * 20)
    (folder / "empty-folder").mkdir()
    done = support.command("ringfence", "backup", "-o", folder / "good.backup", "--passphrase-file", phrase, "--state", made.hub)
    assert done.returncode == 0, done.stderr
    (folder / "cut.backup").write_bytes((folder / "good.backup").read_bytes()[:-50])
    done = support.command(
        "ringfence", "bundle", "export", "--site", "frankfurt", "-o", folder / "bundle.parcel", "--state", made.hub
    )
    assert done.returncode == 0, done.stderr
    (folder / "cut.parcel").write_bytes((folder / "bundle.parcel").read_bytes()[:-50])
    other = system.System(folder / "other-hub", [SITE], folder / "models", support.CONFIGURATION)
    asyncio.run(other.prepare("acme"))
    done = support.command(
        "ringfence", "bundle", "export", "--site", "frankfurt", "-o", folder / "foreign.parcel", "--state", other.hub
    )
    assert done.returncode == 0, done.stderr
    return made


HUB = {
    "no such hub": (("audit", "verify", "--state", "nowhere"), "There is no hub in nowhere"),
    "a public key of noise": (("audit", "verify", "--public-key", "noise"), "is no public key"),
    "a public key that is not there": (("audit", "verify", "--public-key", "nowhere"), "nowhere"),
    "an unknown tenant": (("audit", "search", "--tenant", "nobody"), "no records of 'nobody'"),
    "a day that is none": (("audit", "search", "--since", "2026-13-01"), "--since 2026-13-01: write it as"),
    "a condition that is none": (("audit", "search", "--where", "level"), "field=value"),
    "an unknown record": (("audit", "prove", "req_nobody"), "There is no record 'req_nobody'"),
    "a record of an unknown tenant": (("audit", "prove", "nobody/3"), "no records of 'nobody'"),
    "an unknown format": (("audit", "export", "--tenant", "acme", "--format", "pdf", "-o", "out"), "jsonl, csv and cloudevents"),
    "an unknown subject": (("audit", "subject", "jane", "--tenant", "acme", "-o", "out"), "no records of 'acme'"),
    "nothing to erase": (("audit", "erase", "--tenant", "acme", "--reason", "r", "--subject", "jane"), "Nothing is retained"),
    "erase whom?": (("audit", "erase", "--tenant", "acme", "--reason", "r"), "either --subject or --record"),
    "a hold on nobody": (("audit", "hold", "--tenant", "nobody", "--reason", "r"), "no records of 'nobody'"),
    "a hold that is none": (("audit", "lift", "hold_x"), "There is no hold 'hold_x'"),
    "a witness with a bad name": (("audit", "witness", "--state", "w", "--hub-key", "noise", "--name", "a b"), "without spaces"),
    "a witness of noise": (("audit", "witness", "--state", "w", "--hub-key", "noise", "--name", "w"), "is no public key"),
    "a backup without a key": (("backup", "-o", "out"), "Name either --passphrase-file or --key-command"),
    "a backup with a short passphrase": (("backup", "-o", "out", "--passphrase-file", "short"), "fewer than 12 characters"),
    "a backup to nowhere": (("backup", "-o", "no/such/folder/out", "--passphrase-file", "phrase"), "no/such/folder"),
    "a backup with a key service that is not there": (("backup", "-o", "out", "--key-command", "/no/kms"), "The key service '/no/kms wrap' failed"),
    "a backup of no hub": (("backup", "-o", "out", "--passphrase-file", "phrase", "--state", "nowhere"), "There is no hub in nowhere"),
    "a restoration over a hub": (("restore", "good.backup", "--passphrase-file", "phrase"), "is not empty"),
    "a restoration of nothing": (("restore", "nowhere", "--passphrase-file", "phrase", "--state", "new"), "There is no archive nowhere"),
    "a restoration with another passphrase": (("restore", "good.backup", "--passphrase-file", "other", "--state", "new"), "does not open this archive"),
    "a restoration of noise": (("restore", "noise", "--passphrase-file", "phrase", "--state", "new"), "no archive of Ringfence"),
    "a restoration that is cut off": (("restore", "cut.backup", "--passphrase-file", "phrase", "--state", "new"), "damaged or cut off"),
    "a restoration by another kind of key": (("restore", "good.backup", "--key-command", "cat", "--state", "new"), "kept by a passphrase"),
    "a doctor for nobody": (("doctor", "--state", "nowhere"), "There is no hub in nowhere"),
    "a bundle for nowhere": (("bundle", "export", "--site", "atlantis", "-o", "out"), "There is no site 'atlantis'"),
    "an import of nothing": (("ledger", "import", "empty-folder"), "There is no journal in empty-folder"),
    "an import of noise": (("ledger", "import", "noise"), "no file that Ringfence has written"),
    "an import of a bundle": (("ledger", "import", "bundle.parcel"), "bundle.parcel"),
    "a port that is none": (("nats", "config", "-o", "out", "--store", "s", "--port", "0"), "--port"),
}  # fmt: skip
AGENT = {
    "no such agent": (("doctor", "--state", "nowhere"), "There is no agent in nowhere"),
    "an agent that has not run": (("journal", "export", "--to", "out"), "the agent has not run yet"),
    "a journal that is not there": (("journal", "verify"), "There is no journal"),
    "a status that is not there": (("status",), "No agent has run"),
    "an import of nothing": (("journal", "import", "empty-folder"), "There is nothing for this agent in empty-folder"),
    "an import of noise": (("journal", "import", "noise"), "no file that Ringfence has written"),
    "a bundle of noise": (("bundle", "import", "noise"), "no file that Ringfence has written"),
    "a bundle that is cut off": (("bundle", "import", "cut.parcel"), "cut off"),
    "a bundle of another hub": (("bundle", "import", "foreign.parcel"), "signature"),
    "a bundle that is not there": (("bundle", "import", "nowhere"), "nowhere"),
    "models that are not there": (("models", "import", "nowhere.tar"), "nowhere.tar"),
}


def digest(folder: Path) -> str:
    """Of every file that lies there; SQLite's own shared memory aside."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(("-shm", "-wal")):
            found.update(str(path).encode() + path.read_bytes())
    return found.hexdigest()


def refused(stopped: system.System, script: str, arguments: tuple[str, ...], said: str, **environment: str) -> None:
    folder = stopped.folder.parent
    before = digest(folder)
    done = support.command(script, *arguments, cwd=folder, **environment)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert said in " ".join((done.stderr + done.stdout).split()), done.stderr
    assert "Traceback" not in done.stderr
    assert digest(folder) == before
    assert not (folder / "out").exists() and not (folder / "new").exists()


@pytest.mark.parametrize("name", HUB)
def test_the_hub_refuses(stopped: system.System, name: str) -> None:
    refused(stopped, "ringfence", *HUB[name], RINGFENCE_STATE=str(stopped.hub))


@pytest.mark.parametrize("name", AGENT)
def test_the_agent_refuses(stopped: system.System, name: str) -> None:
    agent = {"RINGFENCE_AGENT_STATE": str(stopped.agent(SITE.name)), "RINGFENCE_AGENT_MODELS": str(stopped.models)}
    refused(stopped, "ringfence-agent", *AGENT[name], **agent)


def test_a_key_that_has_expired_is_refused_at_hub_and_site_alike() -> None:
    """Both decide by the same pure function, from the bundle."""
    text, key = builders.key(expires=1000.0)
    snapshot = builders.snap(keys=(key,))
    assert authenticate.authenticate(snapshot, text, 999.0).key == key.id
    with pytest.raises(authenticate.InvalidKey, match="expired"):
        authenticate.authenticate(snapshot, text, 1001.0)

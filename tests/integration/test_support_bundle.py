"""A support bundle holds what helps, and no canary, whatever the agent's files say."""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path

import pytest

from edge_agent.identity import identity
from tests.support import running as support
from tests.support import system
from tests.support.sites import SITE, Cuttable

CANARY = "canary-7f3a9"
PROMPT = f"My secret is {CANARY} and my number is 536-22-8726."


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Cuttable:
    """A site that has served a prompt with a canary, and whose files have been filled with more of them."""
    made = Cuttable(tmp_path_factory.mktemp("support"), SITE)
    try:
        status, _, _ = made.ask(SITE, [{"role": "user", "content": PROMPT}], model="quick")
        assert status == 200
    finally:
        made.close()
    state = made.system.agent(SITE.name)
    told = json.loads((state / "status.json").read_text())
    told |= {"note": CANARY, "mistakes": [CANARY], "repository": [{"name": CANARY, "why": CANARY, "state": "ready"}]}
    (state / "status.json").write_text(json.dumps(told))
    noted = {"receipt_refused": {"count": 1, "last": 1.0, "detail": CANARY}, CANARY: {"count": 1, "last": 1.0, "detail": ""}}
    (state / "faults.json").write_text(json.dumps(noted))
    return made


def bundle(site: Cuttable, to: Path, *options: object, **environment: str) -> dict[str, str]:
    done = support.command(
        "ringfence-agent", "support-bundle", "-o", to, "--state", site.system.agent(SITE.name), *options, **environment
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(to) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]


def test_no_prompt_key_password_or_tenant_is_in_it(site: Cuttable, tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = [
        {"event": "run_failed", "level": "error", "detail": PROMPT, "error": "ValueError", "agent": CANARY},
        {"event": f"a sentence with {CANARY}", "component": f"{CANARY}@host", "code": f"k={CANARY}"},
        [CANARY],
    ]
    log.write_text("\n".join([*map(json.dumps, lines), f"a plain line with {CANARY}", site.system.log(SITE.name).read_text()]))
    parts = bundle(
        site, tmp_path / "support.tar.gz", "--log", log, RINGFENCE_AGENT_BROKER_URL=f"nats://me:{CANARY}@127.0.0.1:1", RINGFENCE_AGENT_EGRESS=f'["{CANARY}:1"]'
    )  # fmt: skip
    whole = "".join(parts.values())
    me = identity.load(site.system.agent(SITE.name))
    keys = json.loads((site.system.agent(SITE.name) / identity.KEYS).read_text())
    secrets = [
        CANARY,
        "536-22-8726",
        site.system.api_key,
        me.leaf_password,
        me.certificate.read_text()[60:120],
        "acme",
        str(tmp_path),
    ]
    for secret in [*secrets, *(str(value) for value in keys.values() if isinstance(value, str))]:
        assert secret not in whole, secret
    assert oct((tmp_path / "support.tar.gz").stat().st_mode)[-3:] == "600"


def test_what_helps_is_in_it(site: Cuttable, tmp_path: Path) -> None:
    parts = bundle(site, tmp_path / "support.tar.gz", "--log", site.system.log(SITE.name))
    told = {name.removeprefix("ringfence-support/"): text for name, text in parts.items()}
    assert json.loads(told["machine.json"])["libraries"]["onnxruntime"]
    assert json.loads(told["status.json"])["bundle_serial"] > 0
    assert json.loads(told["faults.json"]) == {"receipt_refused": {"count": 1, "last": 1.0}}
    looked_at = {line["what"]: line["state"] for line in json.loads(told["doctor.json"])}
    assert looked_at["journal"] == "pass" and looked_at["contact"] == "pass"
    events = [json.loads(line).get("event") for line in told["log.jsonl"].splitlines()]
    assert "agent_ready" in events and "linked" in events


def test_an_agent_that_was_never_admitted_has_one_too(tmp_path: Path) -> None:
    made = system.System(tmp_path / "run", [], support.models(tmp_path / "models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    folder = tmp_path / "new"
    folder.mkdir()
    done = support.command("ringfence-agent", "support-bundle", "-o", tmp_path / "s.tar.gz", "--state", folder)
    assert done.returncode == 0, done.stderr
    bad = support.command(
        "ringfence-agent", "support-bundle", "-o", tmp_path / "t.tar.gz", "--state", folder, "--log", tmp_path / "nowhere"
    )
    assert bad.returncode == 2 and "nowhere" in bad.stderr and not (tmp_path / "t.tar.gz").exists()

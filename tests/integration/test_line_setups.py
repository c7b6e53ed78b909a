"""The three ways to lay the line, as packaging/nats/README.md has them: direct by TLS, by a leaf node, with a broker of one's own."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.broker import process as broker_process
from tests.support import running as support
from tests.support import system
from tests.support.hub import at_hub
from tests.support.sites import SITE, Cuttable

NATS = support.ROOT / "packaging" / "nats"
NAME = "hub.example"
REFUSED_S = 3.0
"""Seconds after which a line that is tried again and again counts as refused."""


def prepared(folder: Path) -> tuple[Cuttable, int]:
    """A hub that agents know by a name, and the port for leaf nodes."""
    made = Cuttable.__new__(Cuttable)
    made.system = system.System(folder / "run", [SITE], support.models(folder / "models"), support.CONFIGURATION)
    made.proxies = {}
    asyncio.run(made.system.prepare("acme"))
    leaf_port = system.free_port()
    made.system.own["hub"] = {
        "RINGFENCE_CHECKPOINT_S": "1", "RINGFENCE_NATS_LEAF_PORT": str(leaf_port), "RINGFENCE_NAME": NAME,
    }  # fmt: skip
    return made, leaf_port


@contextmanager
def nats_server(configuration: Path, port: int, *options: object) -> Iterator[None]:
    with configuration.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen([broker_process.executable(), "-c", configuration, *map(str, options)], stdout=log, stderr=log)
    try:
        support.eventually(lambda: _takes_connections(port), "nats-server runs")
        yield
    finally:
        process.terminate()
        process.wait()


def _takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serves_and_brings_its_records(made: Cuttable) -> None:
    """A prompt through the hub to the agent, its records back, its proof; by whatever line."""
    asyncio.run(made.system.wait_for_agents([SITE.name]))
    made.await_mode(SITE, "online")
    with support.client(made.system) as app:
        answer = app.chat.completions.create(model="quick", messages=[{"role": "user", "content": "hello"}])
    request = answer.id.removeprefix("chatcmpl-")
    support.eventually(
        lambda: request in {fields["request"] for fields in support.ledger_fields(made.system, "run")},
        "its record is in the ledger",
    )
    support.eventually(lambda: made.status(SITE)["journal_proved"] == made.status(SITE)["journal_records"], "it has the proof")


@pytest.fixture
def hosts() -> Iterator[None]:
    """The name in the certificate leads to this machine."""
    path = Path("/etc/hosts")
    before = path.read_text()
    try:
        path.write_text(f"{before.rstrip()}\n127.0.0.1 {NAME}\n")
    except OSError:
        pytest.skip("needs the right to name a host")
    yield
    path.write_text(before)


def test_an_agent_connects_directly_by_the_hubs_name(tmp_path: Path, hosts: None) -> None:
    made, _ = prepared(tmp_path)
    made.system.own[SITE.name] = {"RINGFENCE_AGENT_BROKER_URL": f"tls://{NAME}:{made.system.nats_port}"}
    try:
        made.system.start()
        asyncio.run(made.system.wait_for_hub())
        serves_and_brings_its_records(made)
        published = support.command(
            "ringfence",
            "models",
            "publish",
            tmp_path / "models" / "quick" / "1",
            "--state",
            made.system.hub,
            **made.system.own["hub"],
        )
        assert published.returncode == 0, published.stderr
    finally:
        made.system.stop_all()


def test_a_leaf_node_holds_the_line_for_the_agent(tmp_path: Path, hosts: None) -> None:
    """Cut and mended behind the agent's back: its own connection, to the leaf, stays up all the while."""
    made, leaf_port = prepared(tmp_path)
    name, port, configuration = SITE.name, system.free_port(), tmp_path / "leaf.conf"
    told = support.command(
        "ringfence-agent", "leaf-config", "--hub", f"tls://{NAME}:{leaf_port}", "--port", port, "-o", configuration, "--state", made.system.agent(name),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert oct(configuration.stat().st_mode)[-3:] == "600"
    made.system.own[name] = {"RINGFENCE_AGENT_BROKER_URL": f"nats://127.0.0.1:{port}"}
    try:
        with nats_server(configuration, port):
            made.system.start()
            asyncio.run(made.system.wait_for_hub())
            serves_and_brings_its_records(made)
            made.system.stop("hub")
            made.await_mode(SITE, "offline")
            served = made.served(SITE, 5)
            (made.system.hub / "hub-address.json").unlink(missing_ok=True)
            made.system.start_hub()
            asyncio.run(made.system.wait_for_hub())
            made.await_mode(SITE, "online")
            made.check_once_and_in_order(SITE, served)
    finally:
        made.system.stop_all()


def test_a_broker_of_ones_own_takes_hub_and_agents(tmp_path: Path, hosts: None) -> None:
    made, _ = prepared(tmp_path)
    name, port, configuration = SITE.name, system.free_port(), tmp_path / "nats.conf"
    told = support.command(
        "ringfence", "nats", "config", "-o", configuration, "--store", tmp_path / "store", "--host", "127.0.0.1", "--port", port,
        "--name", NAME, "--state", made.system.hub,
    )  # fmt: skip
    assert told.returncode == 0 and "1 agents" in told.stdout, told.stderr
    made.system.own["hub"] = {"RINGFENCE_NATS_URL": f"tls://{NAME}:{port}", "RINGFENCE_CHECKPOINT_S": "1"}
    made.system.own[name] = {"RINGFENCE_AGENT_BROKER_URL": f"tls://{NAME}:{port}"}
    try:
        with nats_server(configuration, port):
            made.system.start()
            asyncio.run(made.system.wait_for_hub())
            serves_and_brings_its_records(made)
    finally:
        made.system.stop_all()


def test_a_broker_of_ones_own_follows_the_fleet(tmp_path: Path, hosts: None) -> None:
    """An agent that is revoked is cut off, one that is invited comes in; a server that could not be told is told again."""
    made, _ = prepared(tmp_path)
    name, port, configuration = SITE.name, system.free_port(), tmp_path / "nats.conf"
    reloads = tmp_path / "reload.sh"
    reloads.write_text(f"#!/bin/sh\n[ -e {tmp_path}/may ] || exit 1\nkill -HUP $(cat {tmp_path}/nats.pid)\n")
    reloads.chmod(0o755)
    written = [
        "ringfence", "nats", "config", "-o", configuration, "--store", tmp_path / "store", "--host", "127.0.0.1", "--port", port,
        "--name", NAME, "--state", made.system.hub,
    ]  # fmt: skip
    made.system.own["hub"] = {"RINGFENCE_NATS_URL": f"tls://{NAME}:{port}", "RINGFENCE_CHECKPOINT_S": "1"}
    made.system.own[name] = {"RINGFENCE_AGENT_BROKER_URL": f"tls://{NAME}:{port}"}
    assert support.command(*written).returncode == 0
    try:
        with (
            nats_server(configuration, port, "-P", tmp_path / "nats.pid"),
            follower([*written, "--follow", reloads], tmp_path / "f.log") as log,
        ):
            made.system.start()
            asyncio.run(made.system.wait_for_hub())
            support.eventually(lambda: "reload.sh' failed" in log.read_text(), "the server cannot be told yet")
            (tmp_path / "may").touch()
            support.eventually(lambda: "broker_follows" in log.read_text(), "it is told again")
            asyncio.run(made.system.wait_for_agents([name]))
            assert "is revoked" in at_hub(made.system, "agents", "revoke", name)
            status = made.system.agent(name) / "status.json"
            support.eventually(
                lambda: "has revoked this agent" in json.loads(status.read_text())["refused"], "it is cut off, and says so"
            )
            assert name not in configuration.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        made.system.stop_all()


@contextmanager
def follower(command: list[object], output: Path) -> Iterator[Path]:
    with output.open("wb") as log:
        process = subprocess.Popen([support.SCRIPTS / "ringfence", *map(str, command[1:])], stdout=log, stderr=log)
    try:
        yield output
    finally:
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize("words", ["no-such-command x", "'kill", "''"])
def test_a_command_that_cannot_be_run_is_refused_before_anything_is_written(tmp_path: Path, words: str) -> None:
    made, _ = prepared(tmp_path)
    done = support.command(
        "ringfence", "nats", "config", "-o", tmp_path / "nats.conf", "--store", tmp_path / "store", "--name", NAME, "--follow", words,
        "--state", made.system.hub,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("--follow: "), done.stderr
    assert not (tmp_path / "nats.conf").exists() and not (tmp_path / "tls").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--hub", "hub.example"), "write tls://HOST:7422"),
        (("--hub", "nats://hub.example:7422"), "write tls://HOST:7422"),
        (("--hub", "http://hub.example:7422"), "no address of a broker's leaf port"),
    ],
)
def test_a_leaf_that_could_not_work_is_refused(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    made = system.System(tmp_path / "run", [SITE], support.models(tmp_path / "models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    done = support.command(
        "ringfence-agent", "leaf-config", *options, "-o", tmp_path / "leaf.conf", "--state", made.agent(SITE.name)
    )
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert not (tmp_path / "leaf.conf").exists()

"""Hub and site on machines of their own, as network namespaces: the site only reaches out, and its cable is pulled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import running as support
from tests.support import system

HUB, SITE = f"rf-hub-{os.getpid()}", f"rf-site-{os.getpid()}"
HUB_ADDRESS, SITE_ADDRESS = "10.99.7.1", "10.99.7.2"
NAME = "branch-1"
ASK = """import json, sys, urllib.request
url, key, model = sys.argv[1:]
body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]}).encode()
request = urllib.request.Request(f"{url}/v1/chat/completions", data=body, headers={"authorization": f"Bearer {key}", "cache-control": "no-store"})
print(urllib.request.urlopen(request, timeout=30).headers["x-request-id"])
"""


def ip(*arguments: str, check: bool = True) -> bool:
    done = subprocess.run(["ip", *arguments], capture_output=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.returncode == 0


def within(namespace: str, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    path = {"PATH": f"{support.SCRIPTS}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "COLUMNS": "200"}
    return subprocess.run(
        ["ip", "netns", "exec", namespace, *map(str, command)], capture_output=True, text=True, timeout=60, check=False,
        env={**path, **environment},
    )  # fmt: skip


@pytest.fixture
def cable() -> Iterator[None]:
    """Two namespaces with a cable between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None or not ip("netns", "add", HUB, check=False):
        pytest.skip("this machine has no network namespaces for us")
    try:
        ip("netns", "add", SITE)
        ip("link", "add", "rf-hub", "netns", HUB, "type", "veth", "peer", "name", "rf-site", "netns", SITE)
        for namespace, device, address in ((HUB, "rf-hub", HUB_ADDRESS), (SITE, "rf-site", SITE_ADDRESS)):
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", namespace, "link", "set", device, "up")
            ip("-n", namespace, "link", "set", "lo", "up")
        yield
    finally:
        for namespace in (HUB, SITE):
            ip("netns", "del", namespace, check=False)


def listening(namespace: str) -> list[str]:
    """Where processes of a namespace listen, but for its loopback."""
    rows = [row.split()[3] for row in within(namespace, "ss", "-Hltn").stdout.splitlines()]
    return [row for row in rows if not row.startswith(("127.", "[::1]"))]


def test_a_site_that_only_reaches_out_is_enrolled_cut_off_and_catches_up(cable: None, tmp_path: Path) -> None:
    made = system.System(tmp_path / "run", [], support.models(tmp_path / "models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    agent = tmp_path / "agent"
    started: list[subprocess.Popen[bytes]] = []

    def start(namespace: str, *command: object, **environment: str) -> None:
        with (tmp_path / f"{namespace}.log").open("ab") as log:
            path = {"PATH": f"{support.SCRIPTS}:/usr/bin:/bin", "RINGFENCE_CHECKPOINT_S": "1"}
            started.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", namespace, *map(str, command)], stdout=log, stderr=log, env={**path, **environment}
                )
            )

    def ask(namespace: str, url: str) -> str:
        done = within(namespace, "python3", "-c", ASK, url, made.api_key, "quick")
        return done.stdout.strip()

    def status() -> dict[str, object]:
        return json.loads((agent / "status.json").read_text()) if (agent / "status.json").exists() else {}

    try:
        start(
            HUB,
            "ringfence",
            "serve",
            "--state",
            made.hub,
            "--port",
            8700,
            RINGFENCE_NATS_HOST="0.0.0.0",
            RINGFENCE_NAME=HUB_ADDRESS,
        )
        support.eventually((made.hub / "hub-address.json").exists, "the hub runs")
        invited = within(
            HUB,
            "ringfence",
            "agents",
            "invite",
            "--site",
            "frankfurt",
            "--zone",
            "on_premise",
            "--name",
            NAME,
            "-q",
            "--state",
            made.hub,
        )
        line = shlex.split(invited.stdout)
        assert f"https://{HUB_ADDRESS}:8701" in line, invited.stderr
        enrolled = within(SITE, *line, "--state", agent)
        assert enrolled.returncode == 0 and f"Its hub is tls://{HUB_ADDRESS}:4222" in enrolled.stdout, enrolled.stderr
        start(SITE, "ringfence-agent", "run", "--state", agent, "--models", made.models, "--http-port", 8710)
        support.eventually(lambda: status().get("mode") == "online", "the site is on line")
        assert listening(SITE) == [], "nothing at the site can be reached from outside"
        support.eventually(lambda: ask(HUB, "http://127.0.0.1:8700"), "the hub has the site answer")

        ip("-n", SITE, "link", "set", "rf-site", "down")
        support.eventually(lambda: status().get("mode") == "offline", "the cable is pulled")
        served = [support.eventually(lambda: ask(SITE, "http://127.0.0.1:8710"), "the site serves") for _ in range(3)]
        doctor = within(SITE, "ringfence-agent", "doctor", "--state", agent, RINGFENCE_AGENT_MODELS=str(made.models))
        assert doctor.returncode == 1 and "open it outwards in the firewall" in " ".join(doctor.stdout.split()), doctor.stdout
        ip("-n", SITE, "link", "set", "rf-site", "up")
        support.eventually(lambda: status().get("mode") == "online", "the cable is back")

        def there() -> bool:
            return set(served) <= {str(fields["request"]) for fields in support.ledger_fields(made, "run")}

        support.eventually(there, "what was served off line is in the ledger")
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)

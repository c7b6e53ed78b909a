"""Sites whose line to the hub can be cut, and what they and their hub say of it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path

from sync.kit.faults import Fault
from tests.support import running as support
from tests.support import system
from tests.support.proxy import Proxy

SITE = system.Place("frankfurt-onprem", "on_premise", "frankfurt", api=True)
EDGE = system.Place("virginia-edge", "public_cloud", "virginia", api=True)
HELLO = [{"role": "user", "content": "What is a zone?"}]


class Cuttable:
    """A system whose sites reach the broker through a proxy each."""

    def __init__(self, folder: Path, *places: system.Place, tenant: str = "acme", configuration: Path | None = None) -> None:
        self.system = system.System(
            folder / "run", list(places), support.models(folder / "models"), configuration or support.CONFIGURATION
        )
        self.proxies = {place.name: Proxy(self.system.nats_port) for place in places}
        for place in places:
            self.system.own[place.name] = {"RINGFENCE_AGENT_BROKER_URL": self.proxies[place.name].url}
        self.system.environment = {"RINGFENCE_CHECKPOINT_S": "1"}
        asyncio.run(self.system.prepare(tenant))
        try:
            self.system.start()
            asyncio.run(self.system.wait_for_hub())
            asyncio.run(self.system.wait_for_agents([place.name for place in places]))
        except system.NotReady:
            self.close()
            raise

    def close(self) -> None:
        self.system.stop_all()
        for proxy in self.proxies.values():
            proxy.close()

    def status(self, place: system.Place) -> dict[str, object]:
        return json.loads((self.system.agent(place.name) / "status.json").read_text())

    def url(self, place: system.Place) -> str:
        path = self.system.agent(place.name) / "status.json"
        return support.eventually(lambda: path.exists() and self.status(place)["url"], "the site has an API")  # type: ignore[return-value]

    def ready(self, place: system.Place) -> dict[str, object]:
        try:
            with urllib.request.urlopen(self.url(place) + "/healthz/ready", timeout=10) as response:
                return {**json.loads(response.read()), "code": 200}
        except urllib.error.HTTPError as error:
            return {**json.loads(error.read()), "code": error.code}

    def ask(self, place: system.Place, messages: object = None, model: str = "guide", **options: object) -> tuple[int, dict, dict]:
        """Status, headers and body of a chat completion at the site."""
        body = {"model": model, "messages": messages or HELLO, **options}
        request = urllib.request.Request(self.url(place) + "/v1/chat/completions", data=json.dumps(body).encode())
        request.add_header("authorization", f"Bearer {self.system.api_key}")
        request.add_header("cache-control", "no-store")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, dict(response.headers), json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), json.loads(error.read())

    def await_mode(self, place: system.Place, mode: str) -> None:
        support.eventually(lambda: str(self.ready(place)["status"]).startswith(mode), f"{place.name} is {mode}")

    def requests_in_ledger(self) -> set[object]:
        return {fields["request"] for fields in support.ledger_fields(self.system, "request")}

    def served(self, place: system.Place, count: int) -> list[str]:
        """The ids of so many requests that the site has answered, in order."""
        ids = []
        for _ in range(count):
            status, headers, told = self.ask(place, model="quick")
            assert status == 200, told
            ids.append(headers["x-request-id"])
        return ids

    def check_once_and_in_order(self, place: system.Place, served: list[str]) -> None:
        """Everything that was served is in the ledger, once and in order, and ledger and journal are intact."""

        def runs() -> list[object]:
            return [fields["request"] for fields in support.ledger_fields(self.system, "run") if fields["request"] in wanted]

        wanted = set(served)
        support.eventually(lambda: wanted <= set(runs()), "everything that was served is in the ledger")
        assert runs() == served, "once, and in order"
        assert "intact" in support.command("ringfence", "audit", "verify", "--state", self.system.hub).stdout
        journal = support.command("ringfence-agent", "journal", "verify", "--state", self.system.agent(place.name))
        assert journal.returncode == 0, journal.stderr

    def names_at_site(self, place: system.Place, fault: Fault) -> bool:
        """Whether the fault is in the agent's log, in its doctor and in its metrics."""
        doctor = support.command("ringfence-agent", "doctor", "--state", self.system.agent(place.name)).stdout
        return self._names(fault, place.name, doctor, self.url(place), "")

    def names_at_hub(self, fault: Fault) -> bool:
        """Whether it is in the hub's."""
        doctor = support.command("ringfence", "doctor", "--state", self.system.hub).stdout
        return self._names(fault, "hub", doctor, self.system.url, self.system.admin_key)

    def incidents(self, kind: str) -> list[bytes]:
        """The evidence of each incident of a kind."""
        with sqlite3.connect(f"file:{self.system.hub / 'ringfence.db'}?mode=ro", uri=True) as database:
            return [evidence for (evidence,) in database.execute("select evidence from ledger_incidents where kind = ?", (kind,))]

    def _names(self, fault: Fault, process: str, doctor: str, url: str, key: str) -> bool:
        request = urllib.request.Request(f"{url}/metrics", headers={"authorization": f"Bearer {key}"} if key else {})
        with urllib.request.urlopen(request, timeout=10) as response:
            metrics = response.read().decode()
        return (
            f"fault {fault.value}" in doctor
            and f'ringfence_faults_total{{fault="{fault.value}"}}' in metrics
            and fault.value in self.system.log(process).read_text()
        )

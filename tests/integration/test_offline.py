"""A site whose line is cut: it serves what it can, says what it cannot and since when, and catches up by itself."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support import running as support
from tests.support import system
from tests.support.sites import EDGE, SITE, Cuttable

SECRET = [{"role": "user", "content": "My social security number is 536-22-8726."}]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cuttable]:
    made = Cuttable(tmp_path_factory.mktemp("sites"), SITE, EDGE)
    yield made
    made.close()


def test_on_line_what_is_admitted_here_is_served_here_and_the_rest_over_the_hub(sites: Cuttable) -> None:
    sites.await_mode(SITE, "online")
    sites.await_mode(EDGE, "online")
    status, headers, _ = sites.ask(EDGE)
    assert (status, headers["x-ringfence-agent"], headers["x-ringfence-mode"]) == (200, EDGE.name, "online")
    status, headers, told = sites.ask(EDGE, SECRET)
    assert (status, headers["x-ringfence-agent"], headers["x-ringfence-zone"]) == (200, SITE.name, "on_premise")
    assert told["usage"]["completion_tokens"] > 0 and headers["x-ratelimit-limit-requests"]


def test_a_forwarded_stream_is_the_same_stream(sites: Cuttable) -> None:
    sites.await_mode(EDGE, "online")
    with openai.OpenAI(base_url=f"{sites.url(EDGE)}/v1", api_key=sites.system.api_key, max_retries=0) as app:
        options = {"model": "guide", "messages": SECRET, "temperature": 0}
        whole = app.chat.completions.create(**options)  # type: ignore[call-overload]
        events = list(app.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
    assert "".join(c.delta.content or "" for e in events for c in e.choices) == whole.choices[0].message.content
    assert events[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_both_ends_have_the_record_of_a_forwarded_request_and_the_hub_knows_by_which_site_it_came(sites: Cuttable) -> None:
    sites.await_mode(EDGE, "online")
    _, headers, _ = sites.ask(EDGE, SECRET)
    request = headers["x-request-id"]

    def found() -> list[dict[str, object]]:
        return [fields for fields in support.ledger_fields(sites.system, "request") if fields["request"] == request]

    records = support.eventually(lambda: found() if len(found()) == 2 else None, "both records are in the ledger")
    assert {record["via"] for record in records} == {EDGE.name}
    assert [record.get("forwarded") for record in records if "mode" in record] == [True]
    assert "536-22-8726" not in str(records)


def test_off_line_it_serves_what_it_can_and_says_what_it_cannot_and_since_when(sites: Cuttable) -> None:
    sites.await_mode(EDGE, "online")
    sites.proxies[EDGE.name].cut()
    try:
        sites.await_mode(EDGE, "offline since ")
        status, headers, _ = sites.ask(EDGE)
        assert (status, headers["x-ringfence-mode"], headers["x-ringfence-agent"]) == (200, "offline", EDGE.name)
        status, headers, told = sites.ask(EDGE, SECRET)
        assert (status, told["error"]["code"]) == (503, "offline_unavailable")
        assert "on_premise" in told["error"]["message"] and "the line to the hub is down since 20" in told["error"]["message"]
        assert int(headers["retry-after"]) > 0 and told["error"]["reasons"]
        status, _, told = sites.ask(EDGE, model="absent")
        assert (status, told["error"]["code"]) == (503, "offline_unavailable") and "absent" in told["error"]["message"]
        request = urllib.request.Request(sites.url(EDGE) + "/v1/models")
        request.add_header("authorization", f"Bearer {sites.system.api_key}")
        with urllib.request.urlopen(request) as response:
            names = {model["id"] for model in json.loads(response.read())["data"]}
        assert "guide" in names and "absent" not in names
    finally:
        sites.proxies[EDGE.name].mend()
    sites.await_mode(EDGE, "online")


def test_a_hub_that_is_silent_behind_an_open_line_is_not_on_line(sites: Cuttable) -> None:
    """Never a stale OK: the connection lives, and nothing comes through it."""
    sites.await_mode(SITE, "online")
    sites.proxies[SITE.name].go_dark()
    try:
        sites.await_mode(SITE, "offline since ")
        assert sites.ask(SITE)[0] == 200
    finally:
        sites.proxies[SITE.name].light_up()
    sites.await_mode(SITE, "online")


def test_what_was_served_off_line_is_in_the_ledger_once_and_first_to_last(sites: Cuttable) -> None:
    """The first request after the cut too, and over a cold restart while the line is down."""
    sites.await_mode(SITE, "online")
    sites.proxies[SITE.name].cut()
    served = []
    for _ in range(5):
        status, headers, _ = sites.ask(SITE)
        assert status == 200
        served.append(headers["x-request-id"])
    sites.system.stop(SITE.name, signal.SIGKILL)
    (sites.system.agent(SITE.name) / "status.json").unlink()
    sites.system.start_agent(SITE.name)
    sites.await_mode(SITE, "offline since ")
    for _ in range(5):
        status, headers, _ = sites.ask(SITE)
        assert (status, headers["x-ringfence-mode"]) == (200, "offline")
        served.append(headers["x-request-id"])
    sites.proxies[SITE.name].mend()
    sites.await_mode(SITE, "online")
    status, headers, _ = sites.ask(SITE)
    served.append(headers["x-request-id"])
    support.eventually(lambda: set(served) <= sites.requests_in_ledger(), "everything that was served is in the ledger")
    runs = [fields["request"] for fields in support.ledger_fields(sites.system, "run") if fields["request"] in served]
    assert runs == served, "once, and in order"
    verified = support.command("ringfence", "audit", "verify", "--state", sites.system.hub)
    assert verified.returncode == 0, verified.stdout


def test_a_revoked_key_ends_at_the_site_within_two_seconds_on_line_and_at_rejoin_off_line(sites: Cuttable) -> None:
    sites.await_mode(SITE, "online")
    made = support.command("ringfence", "keys", "create", "--tenant", "acme", "--name", "leaver", "-q", "--state", sites.system.hub)
    key, mine = made.stdout.strip(), sites.system.api_key
    sites.system.api_key = key
    try:
        support.eventually(lambda: sites.ask(SITE)[0] == 200, "the key is known at the site")
        sites.proxies[SITE.name].cut()
        sites.await_mode(SITE, "offline")
        support.command("ringfence", "keys", "revoke", key[8:18], "--state", sites.system.hub)
        assert sites.ask(SITE)[0] == 200, "nobody there knows of it yet"
        sites.proxies[SITE.name].mend()
        support.eventually(lambda: sites.ask(SITE)[0] == 401, "the key is revoked at the site")
    finally:
        sites.system.api_key = mine
        sites.proxies[SITE.name].mend()
    sites.await_mode(SITE, "online")


def test_records_leave_the_disk_only_with_a_proof(sites: Cuttable) -> None:
    sites.await_mode(SITE, "online")
    sites.ask(SITE)
    waiting = lambda: sites.status(SITE)["journal_records"] - sites.status(SITE)["journal_proved"]  # type: ignore[operator] # noqa: E731
    support.eventually(lambda: waiting() == 0, "the hub has proved that it holds every record")
    told = support.command("ringfence-agent", "journal", "verify", "--state", sites.system.agent(SITE.name))
    assert told.returncode == 0, told.stderr


def test_a_site_past_its_grace_time_serves_nothing_and_says_so(tmp_path: Path) -> None:
    configuration = tmp_path / "tenants.yaml"
    configuration.write_text(
        support.CONFIGURATION.read_text().replace(
            "    cache_ttl_seconds: 600\n    rules:", "    offline_grace_hours: 0\n    rules:"
        )
    )
    sites = Cuttable(tmp_path, SITE, configuration=configuration)
    try:
        sites.proxies[SITE.name].cut()
        sites.await_mode(SITE, "offline")
        support.eventually(lambda: sites.ask(SITE)[0] == 503, "the grace time is over")
        status, _, told = sites.ask(SITE)
        assert (status, told["error"]["code"]) == (503, "bundle_stale")
        assert "grace time of 'acme'" in told["error"]["message"]
        doctor = support.command("ringfence-agent", "doctor", "--state", sites.system.agent(SITE.name))
        assert doctor.returncode == 1 and "grace is over" in doctor.stdout and "bundle_stale" in doctor.stdout
        sites.proxies[SITE.name].mend()
        support.eventually(lambda: sites.ask(SITE)[0] == 200, "it serves again when the hub is heard")
    finally:
        sites.close()


def test_a_site_without_a_line_at_all_lives_on_sticks(tmp_path: Path) -> None:
    """Bundle and models in, journal out, receipts and proofs back: by files alone."""
    made = system.System(tmp_path / "run", [SITE], support.models(tmp_path / "models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    made.own[SITE.name] = {"RINGFENCE_AGENT_BROKER_URL": "tls://127.0.0.1:1"}
    agent, stick = made.agent(SITE.name), tmp_path / "stick"
    stick.mkdir()
    sites = Cuttable.__new__(Cuttable)
    sites.system = made
    hub = {"RINGFENCE_STATE": str(made.hub)}
    there = {"RINGFENCE_AGENT_STATE": str(agent), "RINGFENCE_AGENT_MODELS": str(made.models)}

    def at(script: str, *arguments: object, code: int = 0) -> str:
        done = support.command(script, *arguments, cwd=tmp_path, **(hub if script == "ringfence" else there))
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    try:
        shutil.rmtree(made.models / "quick")
        assert "At the site" in at("ringfence", "bundle", "export", "--site", "frankfurt", "-o", stick / "bundle.parcel")
        assert "serial" in at("ringfence-agent", "bundle", "import", stick / "bundle.parcel")
        source = tmp_path / "models" / "quick" / "1"
        at("ringfence", "models", "export", source, "-o", stick / "quick.tar")
        assert "'quick', version 1" in at("ringfence-agent", "models", "import", stick / "quick.tar")
        made.start_agent(SITE.name)
        served = []
        support.eventually((agent / "status.json").exists, "the agent runs")
        for _ in range(7):
            status, headers, _ = sites.ask(SITE, model="quick")
            assert (status, headers["x-ringfence-mode"]) == (200, "offline")
            served.append(headers["x-request-id"])
        assert "files are in" in at("ringfence-agent", "journal", "export", "--to", stick / "out")
        came = 3 * len(served) + 1
        assert f"{SITE.name}: {came} records came" in at("ringfence", "ledger", "import", stick / "out")
        assert "0 records" not in at("ringfence", "ledger", "import", stick / "out"), "a second time changes nothing"
        assert f"proof of records 0 to {came - 1}" in at("ringfence-agent", "journal", "import", stick / "out")
        support.eventually(lambda: sites.status(SITE)["journal_proved"] == came, "the agent has taken up the proof")
        assert {f["request"] for f in support.ledger_fields(made, "run")} == set(served)
        assert "intact" in at("ringfence", "audit", "verify")
        # What is not meant for here is refused, and nothing changes.
        at("ringfence", "bundle", "export", "--site", "dublin", "-o", stick / "other.parcel")
        assert "is for the site 'dublin'" in at("ringfence-agent", "bundle", "import", stick / "other.parcel", code=2)
        (stick / "bundle.parcel").write_bytes((stick / "bundle.parcel").read_bytes()[:-20])
        assert "cut off" in at("ringfence-agent", "bundle", "import", stick / "bundle.parcel", code=2)
        assert "no file that Ringfence has written" in at("ringfence", "ledger", "import", stick / "quick.tar", code=2)
        assert "There is no site 'nowhere'" in at("ringfence", "bundle", "export", "--site", "nowhere", "-o", "x", code=2)
    finally:
        made.stop_all()

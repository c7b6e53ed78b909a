"""What platform, security and audit teams do with a running system, and the invariants seen from outside."""

from __future__ import annotations

import json
import shutil
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from tests.support import running as support
from tests.support import system


def post(running: system.System, path: str, body: bytes, key: str | None = None, **headers: str) -> tuple[int, dict, dict]:
    request = urllib.request.Request(f"{running.url}{path}", data=body, method="POST")
    for name, value in {
        "authorization": f"Bearer {running.api_key if key is None else key}",
        "content-type": "application/json",
        **headers,
    }.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response), dict(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), dict(error.headers)


def chat(running: system.System, text: str, model: str = "quick", key: str | None = None, **headers: str) -> tuple[int, dict, dict]:
    return post(
        running,
        "/v1/chat/completions",
        json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode(),
        key,
        **headers,
    )


FATES = {
    "public": ("hello", "virginia-edge"),
    "internal": ("ask anna@bank.test", "dublin-private"),
    "confidential": ("born 1984-03-12", "dublin-private"),
    "restricted": ("ssn 536-22-8726", "frankfurt-onprem"),
}


@pytest.mark.parametrize("level", FATES)
def test_invariant_1_a_prompt_runs_only_where_its_level_may(running: system.System, level: str) -> None:
    text, agent = FATES[level]
    for _ in range(10):
        status, _, headers = chat(running, text, cache_control="no-store")
        assert status == 200
        assert (headers["x-ringfence-level"], headers["x-ringfence-agent"]) == (level, agent)


BAD = {
    "malformed JSON": ("/v1/chat/completions", b'{"model": ', 400, "invalid_json"),
    "no object": ("/v1/chat/completions", b"[1]", 400, "invalid_request"),
    "wrong type": ("/v1/chat/completions", b'{"model": "quick", "messages": "hello"}', 400, "invalid_request"),
    "empty messages": ("/v1/chat/completions", b'{"model": "quick", "messages": []}', 400, "invalid_request"),
    "unknown role": ("/v1/chat/completions", b'{"model": "quick", "messages": [{"role": "x", "content": "y"}]}', 400, "invalid_request"),
    "image part": ("/v1/chat/completions", b'{"model": "quick", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', 400, "unsupported"),
    "not UTF-8": ("/v1/chat/completions", b'{"model": "\xff\xfe", "messages": []}', 400, "invalid_json"),
    "deeply nested": ("/v1/chat/completions", b"[" * 100_000, 400, "invalid_json"),
    "temperature out of range": ("/v1/chat/completions", b'{"model": "quick", "messages": [{"role": "user", "content": "y"}], "temperature": 9}', 400, "invalid_request"),
    "empty input": ("/v1/embeddings", b'{"model": "guide-embed", "input": ""}', 400, "invalid_request"),
    "neither messages nor input": ("/v1/decisions", b"{}", 400, "invalid_request"),
    "a 20 MB body": ("/v1/chat/completions", b" " * (20 << 20), 413, "request_too_large"),
    "an unknown path": ("/v1/nothing", b"{}", 404, "not_found"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_clear_sentence(running: system.System, name: str) -> None:
    path, body, status, code = BAD[name]
    try:
        got, answer, headers = post(running, path, body)
    except (ConnectionError, urllib.error.URLError):
        assert name == "a 20 MB body"  # the hub closes the line before the whole of it is sent, which some clients see first
        return
    assert (got, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"].count("\n") == 0
    assert "Traceback" not in str(answer) and "pydantic" not in str(answer)
    assert headers["x-request-id"] == answer["error"]["request_id"]


def test_a_body_just_over_the_cap_is_refused_with_413(running: system.System) -> None:
    status, answer, _ = post(running, "/v1/chat/completions", b" " * ((4 << 20) + 1))
    assert (status, answer["error"]["code"]) == (413, "request_too_large")


def test_a_decision_is_explained_and_nothing_runs(running: system.System) -> None:
    body = {"model": "guide", "messages": [{"role": "user", "content": "my card is 4111111111111111"}]}
    status, told, _ = post(running, "/v1/decisions", json.dumps(body).encode())
    assert status == 200
    assert (told["allowed"], told["level"], told["categories"]) == (True, "restricted", ["pci"])
    assert (told["zones"], told["plan"]) == (["on_premise"], ["frankfurt-onprem"])
    assert told["reasons"][0]["rule"] == "routing.restricted"
    status, told, _ = post(running, "/v1/decisions", json.dumps({"input": "password=hunter2!"}).encode())
    assert (status, told["allowed"], told["reasons"][-1]["rule"]) == (200, False, "rule.no-credentials")


def test_a_text_is_classified_without_running_anything(running: system.System) -> None:
    status, told, _ = post(running, "/v1/classify", json.dumps({"input": "mail a@b.com"}).encode())
    assert status == 200
    (finding,) = told["findings"]
    assert (told["level"], finding["type"], finding["start"], finding["end"]) == ("internal", "EMAIL_ADDRESS", 5, 12)


def test_the_same_question_is_answered_from_the_cache(running: system.System) -> None:
    words = [chat(running, "how is the cache doing?")[2]["x-ringfence-cache"] for _ in range(2)]
    assert words == ["miss", "hit"]
    assert chat(running, "how is the cache doing?", cache_control="no-store")[2]["x-ringfence-cache"] == "off"
    assert [chat(running, "ssn 536-22-8726")[2]["x-ringfence-cache"] for _ in range(2)] == ["off", "off"]


def test_invariant_6_a_tenant_never_gets_another_tenants_cached_answer(
    running: system.System, key_of: Callable[[str], str]
) -> None:
    rival = key_of("rival")
    assert [chat(running, "is this shared?")[2]["x-ringfence-cache"] for _ in range(2)] == ["miss", "hit"]
    assert chat(running, "is this shared?", key=rival)[2]["x-ringfence-cache"] == "miss"


def test_invariant_6_metrics_and_errors_name_no_tenant(running: system.System, key_of: Callable[[str], str]) -> None:
    chat(running, "hello", key=key_of("rival"))
    with urllib.request.urlopen(f"{running.url}/metrics") as response:
        text = response.read().decode()
    assert "ringfence_requests_total" in text and "ringfence_stage_seconds" in text
    assert "rival" not in text and "acme" not in text
    assert "acme" not in str(chat(running, "hello", "slow", key=key_of("rival")))


def test_invariant_3_every_answer_has_its_record_at_the_hub_and_at_the_agent(running: system.System) -> None:
    status, _answer, headers = chat(running, "who is anna@bank.test and her friends?")
    assert status == 200
    request = headers["x-request-id"]

    def both() -> bool:
        asked = [f for f in support.ledger_fields(running, "request") if f["request"] == request]
        ran = [f for f in support.ledger_fields(running, "run") if f["request"] == request]
        return bool(asked and ran)

    support.eventually(both, "both records are in the ledger")
    (asked,) = (f for f in support.ledger_fields(running, "request") if f["request"] == request)
    (ran,) = (f for f in support.ledger_fields(running, "run") if f["request"] == request)
    assert (asked["outcome"], asked["agent"], asked["found"]) == ("answered", "dublin-private", {"EMAIL_ADDRESS": 1})
    assert (ran["outcome"], ran["decision"]) == ("done", asked["decision"])
    assert "anna" not in str(asked) and "anna" not in str(ran)


def test_a_refusal_is_recorded_too(running: system.System) -> None:
    _, answer, _ = chat(running, "the password is hunter2!")
    request = answer["error"]["request_id"]

    def recorded() -> list:
        return [f for f in support.ledger_fields(running, "request") if f["request"] == request]

    (fields,) = support.eventually(recorded, "the refusal is in the ledger")
    assert (fields["outcome"], fields["code"], fields["agent"]) == ("refused", "policy_denied", "")
    assert fields["rules"][-1] == "rule.no-credentials"


def test_the_outbox_is_trimmed_after_the_receipt(running: system.System) -> None:
    chat(running, "hello outbox")

    def drained() -> bool:
        status = json.loads((running.agent("virginia-edge") / "status.json").read_text())
        return status["journal_waiting"] == 0 and status["journal_records"] > 1

    support.eventually(drained, "the agent's journal waits for nothing")


def test_invariant_5_the_ledger_verifies_and_a_flipped_byte_is_named(running: system.System, tmp_path: Path) -> None:
    chat(running, "hello ledger")
    support.eventually(lambda: support.ledger_fields(running, "request"), "there are records")
    good = support.command("ringfence", "audit", "verify", "--state", running.hub)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "The ledger is intact" in good.stdout
    copy = tmp_path / "hub"
    copy.mkdir()
    source = sqlite3.connect(running.hub / "ringfence.db")
    target = sqlite3.connect(copy / "ringfence.db")
    source.backup(target)
    query = "select entries, first_leaf from ledger_segments where tenant = 'acme' order by first_leaf limit 1"
    (entries, leaf) = target.execute(query).fetchone()
    flipped = bytearray(entries)
    flipped[len(flipped) // 2] ^= 1
    with target:
        target.execute("update ledger_segments set entries = ? where tenant = 'acme' and first_leaf = ?", (bytes(flipped), leaf))
    for database in (source, target):
        database.close()
    shutil.copy(running.hub / "hub-public-key.txt", copy)
    bad = support.command("ringfence", "audit", "verify", "--state", copy)
    assert bad.returncode == 1
    assert "NOT intact" in bad.stdout and "record" in bad.stdout


def test_an_edit_is_in_force_within_two_seconds_and_a_bad_one_changes_nothing(running: system.System, tmp_path: Path) -> None:
    text = support.CONFIGURATION.read_text()
    path = tmp_path / "tenants.yaml"
    bad = text.replace("max_tokens_per_request: 256", "max_tokens_per_request: many")
    path.write_text(bad)
    environment = {"RINGFENCE_URL": running.url, "RINGFENCE_ADMIN_KEY": running.admin_key}
    refused = support.command("ringfence", "apply", "-f", path, cwd=tmp_path, **environment)
    assert refused.returncode == 2
    line = 1 + next(i for i, t in enumerate(bad.splitlines()) if "many" in t)
    assert f"line {line}: tenants.0.max_tokens_per_request" in refused.stderr, refused.stderr
    path.write_text(text.replace("why: credentials do not belong into prompts", "why: no keys please"))
    applied = support.command("ringfence", "apply", "-f", path, cwd=tmp_path, **environment)
    assert applied.returncode == 0, applied.stderr
    _, told, _ = post(running, "/v1/decisions", json.dumps({"input": "password=hunter2!"}).encode())
    assert told["reasons"][-1]["why"] == "no keys please"

    def everywhere() -> bool:
        request = urllib.request.Request(f"{running.url}/v1/admin/agents", headers={"authorization": f"Bearer {running.admin_key}"})
        with urllib.request.urlopen(request) as response:
            return {row["bundle_serial"] for row in json.load(response)["agents"]} == {told["bundle_serial"]}

    support.eventually(everywhere, "every agent has the new bundle")


def test_administration_needs_an_admin_key(running: system.System) -> None:
    request = urllib.request.Request(f"{running.url}/v1/admin/agents", headers={"authorization": f"Bearer {running.api_key}"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
    refused.value.close()


def test_health_says_what_is_up(running: system.System) -> None:
    with urllib.request.urlopen(f"{running.url}/healthz/live") as response:
        assert json.load(response)["status"] == "live"
    with urllib.request.urlopen(f"{running.url}/healthz/ready") as response:
        told = json.load(response)
    assert (told["status"], told["agents_up"]) == ("ready", 3)


def test_a_client_that_goes_away_stops_the_work(running: system.System, app: openai.OpenAI) -> None:
    stream = app.chat.completions.create(model="slow", messages=[{"role": "user", "content": "hello"}], stream=True)
    next(iter(stream))
    stream.close()

    def cancelled() -> bool:
        return any(f["outcome"] == "cancelled" for f in support.ledger_fields(running, "run"))

    support.eventually(cancelled, "the agent records that the run was cancelled")


def test_no_prompt_text_is_in_any_log(running: system.System) -> None:
    chat(running, "canary-7f3a9c what is this")
    chat(running, "canary-7f3a9c", "absent")
    for log in running.folder.glob("*.log"):
        assert "canary-7f3a9c" not in log.read_text(), log
    for path in running.folder.rglob("*"):
        if path.is_file():
            assert b"canary-7f3a9c" not in path.read_bytes(), path


SENT = "Write to Anna at anna.meyer@bank.test or call +49 30 901820 about lunch"


def test_what_was_found_is_taken_out_before_it_leaves_and_put_back_into_the_answer(
    running: system.System, key_of: Callable[[str], str]
) -> None:
    """The echo answers in capital letters what it was sent: a value that comes back as it was written, it never saw."""
    status, answer, headers = chat(running, SENT, "echo", key_of("careful"))
    assert (status, headers["x-ringfence-agent"]) == (200, "virginia-edge")
    text = answer["choices"][0]["message"]["content"]
    assert text.startswith("WRITE TO ") and text.endswith("ABOUT LUNCH")
    assert "anna.meyer@bank.test" in text and "ANNA.MEYER" not in text
    assert "+49 30 901820" in text


def test_a_placeholder_cut_by_the_stream_is_put_back_whole(running: system.System, key_of: Callable[[str], str]) -> None:
    with support.client(running, key_of("careful")) as client:
        stream = client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": SENT}], stream=True, extra_headers={"cache-control": "no-store"}
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "anna.meyer@bank.test" in "".join(pieces)
    assert "EMAIL_ADDRESS" not in "".join(pieces)
    assert len(pieces) > 5


def test_a_tenants_own_recognizers_and_lists_come_from_its_yaml(running: system.System, key_of: Callable[[str], str]) -> None:
    def told(text: str, key: str | None = None) -> dict:
        return post(running, "/v1/classify", json.dumps({"input": text}).encode(), key)[1]

    key = key_of("careful")
    badge = told("badge B-123456", key)
    assert (badge["level"], [f["type"] for f in badge["findings"]]) == ("restricted", ["BADGE_NUMBER"])
    assert told("badge B-123456")["findings"] == []
    assert "business" in told("where is PROJEKT BLAUFUCHS?", key)["categories"]
    assert told("press@acme.test", key)["findings"] == []
    assert told("press@acme.test")["findings"] != []


def test_a_decision_says_where_what_was_found_is_taken_out(running: system.System, key_of: Callable[[str], str]) -> None:
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "mail a@b.com"}]}).encode()
    _, told, _ = post(running, "/v1/decisions", body, key_of("careful"))
    assert told["redact"] == ["public_cloud"]
    assert told["reasons"][-1]["rule"] == "tenant.redaction"

"""Law: redacting a request costs as much as the request has, once, and holds up nobody else.

The work grows with the texts and findings and not with their product; the event loop goes on while a large request is redacted;
what is redacted for one place serves the next; and more findings than a request can have are refused.

Mutations that turn it red: look for each name in all texts or among all names; redact on the loop in RequestClassifier; leave
`outcome.redaction` empty in `redacting.redacted`; leave MAX_REDACTED out.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from classifiers import requests
from classifiers.engine import Classifier
from classifiers.redaction import Mode, Vault
from classifiers.requests import RequestClassifier
from classifiers.verdict import Finding
from sync.serving.classifier import NotRedactable
from sync.serving.executor import Order, Place
from sync.serving.replies import Lost
from tests.support.house import House

REQUESTS = RequestClassifier(Classifier())


def _list_of_people(count: int) -> tuple[str, list[Finding]]:
    lines, findings, at = [], [], 0
    for number in range(count):
        line = f"person{number}.of.team{number}@bank{number}.test"
        findings.append(Finding(at, at + len(line), "EMAIL_ADDRESS", "pii", 1.0, "test"))
        lines.append(line)
        at += len(line) + 1
    return "\n".join(lines), findings


def _seconds(mode: Mode, count: int) -> float:
    text, findings = _list_of_people(count)
    began = time.process_time()
    vault = Vault(mode)
    (redacted,) = vault.redact([text], findings)
    assert vault.restore(redacted) == (text if mode in (Mode.PSEUDONYM, Mode.SURROGATE) else redacted)
    assert vault.restore(redacted, json=True)
    return time.process_time() - began


@pytest.mark.parametrize("mode", Mode)
def test_four_times_the_findings_are_four_times_the_work(mode: Mode) -> None:
    """4 MB of findings. The ratio would be 16 where the work was quadratic: half of that leaves room for a busy machine."""
    size = 27_000
    assert 4 * len(_list_of_people(size)[0]) > 4_000_000
    less = min(_seconds(mode, size) for _ in range(2))
    assert _seconds(mode, 4 * size) < 8 * less + 0.05


def test_a_text_full_of_placeholders_costs_one_look_at_each() -> None:
    def seconds(count: int) -> float:
        taken = " ".join(f"<PERSON_{number}>" for number in range(count))
        names = [f"Anna{number}" for number in range(count)]
        findings, at = [], len(taken) + 1
        for name in names:
            findings.append(Finding(at, at + len(name), "PERSON", "pii", 1.0, "test"))
            at += len(name) + 1
        text = " ".join((taken, *names))
        began = time.process_time()
        vault = Vault()
        (redacted,) = vault.redact([text], findings)
        assert vault.restore(redacted) == text
        return time.process_time() - began

    less = min(seconds(10_000) for _ in range(2))
    assert seconds(40_000) < 8 * less + 0.05


async def test_the_event_loop_goes_on_while_a_large_request_is_redacted() -> None:
    text, findings = _list_of_people(requests.MAX_REDACTED)
    turns = 0
    over = asyncio.Event()

    async def count() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await asyncio.sleep(0)
    before = turns
    await REQUESTS.redact(Vault(), [text], findings)
    took_turns = turns - before
    over.set()
    await counting
    # One turn is what a call that never leaves the loop allows; a thread gives way every 5 ms.
    assert took_turns > 10


async def test_more_findings_than_are_taken_out_of_a_request_are_refused() -> None:
    text, findings = _list_of_people(requests.MAX_REDACTED + 1)
    with pytest.raises(NotRedactable, match=str(requests.MAX_REDACTED)):
        await REQUESTS.redact(Vault(), [text], findings)
    kept = [Finding(0, 1, "LOCATION", "quasi_identifier", 1.0, "test")] * (requests.MAX_REDACTED + 1)
    assert await REQUESTS.redact(Vault(), ["a"], kept) == ["a"]


async def test_what_is_redacted_is_redacted_once_however_many_places_are_tried(house: House, monkeypatch) -> None:
    vaults: list[Vault] = []
    orders: list[Order] = []
    make, begin = REQUESTS.vault, house.dispatch.begin

    def vault(tenant, key):
        vaults.append(make(tenant, key))
        return vaults[-1]

    def twice(decided):
        return [place for place in plan(decided) for _ in range(2)]

    async def failing_first(place: Place, order: Order, written):
        orders.append(order)
        if len(orders) == 1:
            raise Lost("The agent is not there.")
        return await begin(place, order, written)

    plan = house.dispatch.plan
    monkeypatch.setattr(house.hub.parts.classifier, "vault", vault)
    monkeypatch.setattr(house.dispatch, "plan", twice)
    monkeypatch.setattr(house.dispatch, "begin", failing_first)
    status, _, answer = await house.chat("write to anna.meyer@bank.test", tenant="redacto")
    assert status == 200, answer
    assert b"anna.meyer@bank.test" in answer
    assert len(orders) == 2 and len(vaults) == 1
    assert orders[0].payload is orders[1].payload is not orders[0].decided.ask.payload

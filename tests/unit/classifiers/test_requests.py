"""The classifier as the path of a request uses it: by each tenant's settings."""

from __future__ import annotations

import pytest

from classifiers.engine import load
from classifiers.requests import RequestClassifier
from classifiers.verdict import FAILED_CLOSED, Assessment
from sync.bundle.snapshot import Classification, Redaction, Snapshot
from sync.wire.levels import Level, Zone
from tests.support import builders

REQUESTS = RequestClassifier(load())
CARD = "The card of Anna Meyer is 4111 1111 1111 1111"
PLAIN = builders.tenant("plain")
REDACTING = builders.tenant("redacting", redaction=Redaction("pseudonym", (Zone.PUBLIC_CLOUD,)))
SMALL = builders.tenant("small", classification=Classification(budget_words=20, over_budget=Level.CONFIDENTIAL))
SNAPSHOT = Snapshot(builders.bundle(tenants=(PLAIN, REDACTING, SMALL)))


async def test_all_spans_are_found_where_the_tenant_or_the_caller_wants_them() -> None:
    assert (await REQUESTS.assess(SNAPSHOT, PLAIN, [CARD])).model == "not_needed"
    for found in (
        await REQUESTS.assess(SNAPSHOT, PLAIN, [CARD], all_spans=True),
        await REQUESTS.assess(SNAPSHOT, REDACTING, [CARD]),
    ):
        assert found.counts() == {"CREDIT_CARD": 1, "PERSON": 1}


@pytest.mark.parametrize("words", [10, 1_000])
async def test_the_tenants_own_budget_counts_on_the_loop_and_off_it(words: int) -> None:
    texts = ["fine words " * (words // 2)]
    found = await REQUESTS.assess(SNAPSHOT, SMALL, texts)
    assert (found.model, found.read_whole) == (("ran", True) if words <= 20 else ("over_budget", False))
    assert (found.level >= Level.CONFIDENTIAL) == (words > 20)
    assert (await REQUESTS.assess(SNAPSHOT, PLAIN, texts)).read_whole


async def test_a_vault_redacts_as_the_tenant_says_and_puts_back() -> None:
    found = await REQUESTS.assess(SNAPSHOT, REDACTING, [CARD])
    vault = REQUESTS.vault(REDACTING, b"k" * 32)
    (redacted,) = vault.redact([CARD], found.findings)
    assert redacted == "The card of <PERSON_1> is <CREDIT_CARD_1>"
    assert vault.restore(redacted) == CARD
    with pytest.raises(ValueError, match="not a valid Mode"):
        REQUESTS.vault(PLAIN, b"k" * 32)


def test_only_what_was_read_to_its_end_was_read_whole() -> None:
    states = {state: Assessment(Level.PUBLIC, (), model=state).read_whole for state in ("ran", "absent", "over_budget")}
    assert states == {"ran": True, "absent": True, "over_budget": False}
    assert not FAILED_CLOSED.read_whole

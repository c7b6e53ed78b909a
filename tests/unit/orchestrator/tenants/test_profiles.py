"""What of a tenant the classifier is told."""

from __future__ import annotations

import pytest

from classifiers import profile, profiles, tenant
from orchestrator.tenants import document
from sync.bundle.snapshot import Classification, Redaction, Route, Rule, Snapshot
from sync.wire import codec
from sync.wire.levels import Level, Zone
from tests.support import builders

EVERYWHERE = (Zone.PUBLIC_CLOUD, Zone.PRIVATE_CLOUD, Zone.ON_PREMISE)


def routes(*zones: tuple[Zone, ...]) -> tuple[Route, ...]:
    return tuple(Route(level, at, ()) for level, at in zip(Level, zones, strict=True))


RULE = Rule(id="r", why="why", deny=True, at_least=Level.RESTRICTED, categories=(), models=(), roles=(), zones=(), jurisdictions=())
CASES = {
    "all levels everywhere": ({"routes": routes(*[EVERYWHERE] * 4), "cache_ttl_s": 0, "rules": ()}, Level.PUBLIC),
    "restricted on premises": ({"routes": routes(*[EVERYWHERE] * 3, (Zone.ON_PREMISE,)), "cache_ttl_s": 0, "rules": ()}, Level.RESTRICTED),
    "internal stays, the rest as internal": ({"routes": routes(EVERYWHERE, *[(Zone.ON_PREMISE,)] * 3), "cache_ttl_s": 0, "rules": ()}, Level.INTERNAL),
    "a rule at restricted": ({"routes": routes(*[EVERYWHERE] * 4), "cache_ttl_s": 0, "rules": (RULE,)}, Level.RESTRICTED),
    "caches differ": ({"routes": routes(*[EVERYWHERE] * 4), "cache_ttl_s": 60, "rules": ()}, Level.RESTRICTED),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_highest_level_that_a_tenant_treats_in_its_own_way(name: str) -> None:
    fields, expected = CASES[name]
    assert profiles.highest_distinguished(builders.tenant(**fields)) is expected


def test_all_spans_are_wanted_where_rules_look_at_categories_or_text_is_redacted() -> None:
    assert not profiles.needs_all_spans(builders.tenant(rules=()))
    assert profiles.needs_all_spans(builders.tenant(redaction=Redaction("pseudonym", (Zone.PUBLIC_CLOUD,))))


def test_a_profile_is_compiled_once_for_a_bundle() -> None:
    snapshot = Snapshot(builders.bundle())
    (acme, *_) = snapshot.tenants.values()
    assert profiles.of(snapshot, acme) is profiles.of(snapshot, acme)


BAD = {
    "a pattern that RE2 refuses": ("recognizers: [{name: x, type: BADGE, pattern: '(?=a)'}]", "RE2 refuses"),
    "a pattern that matches nothing": ("recognizers: [{name: x, type: BADGE, pattern: 'a*'}]", "empty text"),
    "an unknown region": ("phone_regions: [XX]", "no region"),
    "an unknown level": ("categories: {pii: secret}", "secret"),
    "an empty entry": ("deny: {business: ['']}", "empty"),
    "a budget of milliseconds": ("budget_ms: 250", "line 8: tenants.0.classification.budget_ms: .*write 'budget_words'"),
    "a budget that is too large": ("budget_words: 1000001", "less than or equal to 1000000"),
    "an unknown field": ("recogniser: []", "Extra inputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_in_a_tenants_classification_is_told_with_its_line(name: str) -> None:
    text, words = BAD[name]
    yaml = f"version: 1\nmodels: {{}}\nsites: {{}}\ntenants:\n  - id: acme\n    allowed_models: []\n    classification:\n      {text}\n"
    with pytest.raises(document.BadDocument, match=words) as told:
        document.parse(yaml, "tenants.yaml")
    assert "tenants.yaml, line " in str(told.value)


def test_the_budget_is_of_words_and_what_is_over_it_restricted_unless_the_tenant_says_otherwise() -> None:
    left_out, said = (classification(fields) for fields in ("{}", "{budget_words: 7, over_budget: internal}"))
    assert left_out == classification(f"{{budget_words: {profile.BUDGET_WORDS}, over_budget: restricted}}")
    assert b"budget_words" not in codec.pack_value(left_out), "agents of 0.1 do not know the field"
    assert left_out == Classification() and tenant.of_tenant(Classification()) == profile.DEFAULT
    made = tenant.of_tenant(said)
    assert (made.budget_words, made.floor_over_budget) == (7, Level.INTERNAL)


def classification(fields: str) -> Classification:
    yaml = f"version: 1\nmodels: {{}}\nsites: {{}}\ntenants:\n  - {{id: acme, allowed_models: [], classification: {fields}}}\n"
    return document.parse(yaml, "tenants.yaml").tenants[0].classification.compiled()

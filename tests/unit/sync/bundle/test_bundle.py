"""The bundle and the decisions made from it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.bundle import snapshot
from sync.crypto import keyring, signing
from sync.kit import errors
from sync.kit.ids import AgentId, ModelName, SiteId, TenantId
from sync.policy import admit, api_key, authenticate, authorize, decide, limit
from sync.policy.decide import Facts
from sync.wire.levels import CacheScope, Level, Zone
from tests.support import builders

ZONES = st.lists(st.sampled_from(list(Zone)), unique=True).map(tuple)
PLACES = st.lists(st.sampled_from(["eu", "us"]), unique=True).map(tuple)
ROUTES = st.tuples(*(st.builds(snapshot.Route, st.just(level), ZONES, PLACES) for level in Level))
RULES = st.lists(
    st.builds(
        builders.rule, deny=st.booleans(), at_least=st.sampled_from(Level), zones=ZONES, jurisdictions=PLACES,
        categories=st.lists(st.sampled_from(["pii", "pci"]), max_size=1).map(tuple),
    ), max_size=3,
).map(tuple)  # fmt: skip
CATEGORIES = st.frozensets(st.sampled_from(["pii", "pci", "network"]))


# --- invariant 1: nothing runs outside its admitted zones and regions


@given(ROUTES, RULES, PLACES, CATEGORIES)
def test_invariant_1_a_higher_level_never_admits_more_places_than_a_lower_one(routes, rules, places, categories) -> None:
    tenant = builders.tenant(routes=routes, rules=rules, jurisdictions=places)
    at = builders.snap(tenants=(tenant,))
    decisions = [decide.decide(at, tenant, Facts(level, categories), builders.model()) for level in Level]
    for lower, higher in itertools.pairwise(decisions):
        assert set(higher.zones) <= set(lower.zones) or not higher.allowed
        assert set(higher.regions) <= set(lower.regions) or not higher.allowed


@given(ROUTES, RULES, st.sampled_from(Level))
def test_a_rule_only_narrows(routes, rules, level) -> None:
    bare, ruled = builders.tenant(routes=routes), builders.tenant(routes=routes, rules=rules)
    facts = Facts(level, frozenset({"pii"}))
    without = decide.decide(builders.snap(tenants=(bare,)), bare, facts, None)
    narrowed = decide.decide(builders.snap(tenants=(ruled,)), ruled, facts, None)
    assert set(narrowed.zones) <= set(without.zones)
    assert set(narrowed.regions) <= set(without.regions)


@given(ROUTES, RULES, st.sampled_from(Level), CATEGORIES)
def test_a_decision_that_is_not_allowed_admits_no_place_and_says_why(routes, rules, level, categories) -> None:
    tenant = builders.tenant(routes=routes, rules=rules)
    decision = decide.decide(builders.snap(tenants=(tenant,)), tenant, Facts(level, categories), builders.model())
    assert decision.reasons
    if not decision.allowed:
        assert not decision.zones and not decision.regions and not decision.deployments
        assert decision.cache is CacheScope.NONE


@given(ROUTES, RULES, st.sampled_from(Level))
def test_the_same_bundle_and_the_same_facts_give_the_same_decision(routes, rules, level) -> None:
    tenant = builders.tenant(routes=routes, rules=rules)
    at = builders.snap(tenants=(tenant,))
    assert decide.decide(at, tenant, Facts(level), builders.model()) == decide.decide(at, tenant, Facts(level), builders.model())


def test_the_floor_of_the_tenant_raises_the_level() -> None:
    tenant = builders.tenant(floor=Level.RESTRICTED)
    decision = decide.decide(builders.snap(tenants=(tenant,)), tenant, Facts(Level.PUBLIC), builders.model())
    assert decision.level is Level.RESTRICTED
    assert decision.zones == (Zone.ON_PREMISE,)
    assert decision.reasons[0].rule == "tenant.security_level"


def test_the_order_of_zones_is_the_tenants_preference() -> None:
    tenant = builders.tenant()
    decision = decide.decide(builders.snap(), tenant, Facts(Level.PUBLIC), builders.model())
    assert decision.zones[0] is Zone.PUBLIC_CLOUD
    assert [d.zones for d in decision.deployments] == [(Zone.PUBLIC_CLOUD,), (Zone.PRIVATE_CLOUD,), (Zone.ON_PREMISE,)]


def test_a_model_that_is_deployed_elsewhere_is_refused_with_the_reason() -> None:
    model = builders.model(zones=(Zone.PUBLIC_CLOUD,))
    decision = decide.decide(builders.snap(models=(model,)), builders.tenant(), Facts(Level.RESTRICTED), model)
    assert not decision.allowed
    assert decision.reasons[-1].rule == "model.deployments"


def test_what_may_be_cached_follows_the_level() -> None:
    scopes = [decide.decide(builders.snap(), builders.tenant(), Facts(level), None).cache for level in Level]
    assert scopes == [CacheScope.TENANT, CacheScope.TENANT, CacheScope.PRINCIPAL, CacheScope.NONE]
    quiet = builders.tenant(cache_ttl_s=0)
    assert decide.decide(builders.snap(), quiet, Facts(Level.PUBLIC), None).cache is CacheScope.NONE


def test_a_rule_matches_by_model_role_level_and_category() -> None:
    cases = {
        "model": (builders.rule(deny=True, models=(ModelName("guide"),)), True),
        "other model": (builders.rule(deny=True, models=(ModelName("x"),)), False),
        "role": (builders.rule(deny=True, roles=("user",)), True),
        "other role": (builders.rule(deny=True, roles=("admin",)), False),
        "level": (builders.rule(deny=True, at_least=Level.CONFIDENTIAL), False),
        "category": (builders.rule(deny=True, categories=("pii",)), True),
        "jurisdiction": (builders.rule(jurisdictions=("us",)), False),
    }
    for name, (rule, denied) in cases.items():
        tenant = builders.tenant(rules=(rule,))
        facts = Facts(Level.INTERNAL, frozenset({"pii"}), ("user",))
        decision = decide.decide(builders.snap(), tenant, facts, builders.model())
        assert decision.allowed is not (denied or name == "jurisdiction"), name


# --- the agent's own check


TICKETS = {
    "fits": (builders.ticket(), "onprem", None),
    "outside its zones": (builders.ticket(zones=(Zone.PUBLIC_CLOUD,)), "onprem", "outside_ticket"),
    "outside its regions": (builders.ticket(regions=("us-east-1",)), "onprem", "outside_ticket"),
    "expired": (builders.ticket(expires=1_699_999_900.0), "onprem", "ticket_expired"),
    "expired within the tolerance for clocks of 60 s": (builders.ticket(expires=1_699_999_950.0), "onprem", None),
    "of a tenant that the bundle does not know": (builders.ticket(tenant=TenantId("other")), "onprem", "tenant_unknown"),
    "of a level that the policy does not admit here": (builders.ticket(level=Level.RESTRICTED), "public", "outside_policy"),
    "for an agent that the bundle does not know": (builders.ticket(), "nobody", "agent_unknown"),
}


@pytest.mark.parametrize("name", TICKETS)
def test_invariant_1_the_agent_checks_again_a_ticket_that(name: str) -> None:
    ticket, me, code = TICKETS[name]
    now = 1_700_000_000.0
    if code is None:
        assert admit.admit(builders.snap(), AgentId(me), ticket, now=now, age_s=0).id == me
        return
    with pytest.raises(admit.TicketRefused) as refused:
        admit.admit(builders.snap(), AgentId(me), ticket, now=now, age_s=0)
    assert refused.value.code == code


def test_a_bundle_past_the_tenants_grace_time_admits_nothing() -> None:
    now = 1_700_000_000.0
    with pytest.raises(admit.TicketRefused) as refused:
        admit.admit(builders.snap(), AgentId("onprem"), builders.ticket(), now=now, age_s=3611)
    assert refused.value.code == "bundle_stale"


# --- signing and scoping


def test_a_bundle_comes_back_as_it_was_signed(keys: keyring.Keyring) -> None:
    frame = snapshot.sign(builders.bundle(), keys.signer)
    assert snapshot.open_signed(frame, keys.signer.public_key, newer_than=0).bundle == builders.bundle()


def test_a_serial_never_goes_back(keys: keyring.Keyring) -> None:
    frame = snapshot.sign(builders.bundle(serial=5), keys.signer)
    with pytest.raises(errors.Corrupt, match="never goes back"):
        snapshot.open_signed(frame, keys.signer.public_key, newer_than=5)


def test_bytes_are_verified_under_the_hubs_key_before_they_are_parsed(keys: keyring.Keyring) -> None:
    frame = bytearray(snapshot.sign(builders.bundle(), keys.signer))
    other = signing.Signer(signing.new_seed())
    with pytest.raises(errors.Corrupt):
        snapshot.open_signed(bytes(frame), other.public_key, newer_than=0)
    frame[200] ^= 1
    with pytest.raises(errors.Corrupt):
        snapshot.open_signed(bytes(frame), keys.signer.public_key, newer_than=0)


def test_invariant_6_a_sites_bundle_names_only_the_tenants_that_the_site_serves() -> None:
    here, elsewhere = builders.tenant("here", sites=(SiteId("dublin"),)), builders.tenant("elsewhere", sites=(SiteId("virginia"),))
    everywhere = builders.tenant("everywhere")
    keys = tuple(builders.key(name)[1] for name in ("here", "elsewhere", "everywhere"))
    whole = builders.bundle(tenants=(here, elsewhere, everywhere), keys=keys)
    scoped = snapshot.for_site(whole, SiteId("dublin"))
    assert {t.id for t in scoped.tenants} == {"here", "everywhere"}
    assert {k.tenant for k in scoped.keys} == {"here", "everywhere"}
    assert {a.id for a in scoped.agents} == {"private"}
    assert "elsewhere" not in repr(scoped)


# --- keys


def test_a_minted_key_parses_and_authenticates() -> None:
    text, key = builders.key()
    assert authenticate.authenticate(builders.snap(keys=(key,)), text, 0).id == "app"
    assert len({api_key.mint() for _ in range(200)}) == 200


def test_every_single_mistyped_character_is_caught_by_the_checksum() -> None:
    text = api_key.mint()
    for place in range(8, len(text)):
        other = "a" if text[place] != "a" else "b"
        if text[place] != "_":
            assert api_key.parse(text[:place] + other + text[place + 1 :]) is None


WRONG_KEYS = [
    "",
    "rf_live_",
    "x" * 200,
    "rf_live_' or 1=1 --",
    "rf_live_0123456789_" + "a" * 49,
    "\x00" * 68,
    "ключ",
    api_key.mint(),
    "Bearer x",
]


@pytest.mark.parametrize("text", WRONG_KEYS)
def test_a_wrong_key_is_refused(text: str) -> None:
    _, key = builders.key()
    with pytest.raises(authenticate.InvalidKey):
        authenticate.authenticate(builders.snap(keys=(key,)), text, 0)


def test_an_expired_key_and_one_of_a_tenant_that_is_gone_are_refused() -> None:
    text, key = builders.key(expires=100.0)
    authenticate.authenticate(builders.snap(keys=(key,)), text, 99)
    with pytest.raises(authenticate.InvalidKey):
        authenticate.authenticate(builders.snap(keys=(key,)), text, 100)
    text, key = builders.key("gone")
    with pytest.raises(authenticate.InvalidKey):
        authenticate.authenticate(builders.snap(keys=(key,)), text, 0)


def test_models_and_administration_are_authorized() -> None:
    text, key = builders.key()
    at = builders.snap(keys=(key,), models=(builders.model(), builders.model("other"), builders.model("guide-embed", "embed")))
    principal = authenticate.authenticate(at, text, 0)
    assert authorize.model(at, principal, "guide", "generate").name == "guide"
    for name, task, code in (
        ("none", "generate", "model_not_found"),
        ("other", "generate", "model_not_found"),
        ("guide", "embed", "model_task_mismatch"),
    ):
        with pytest.raises(errors.Refused) as refused:
            authorize.model(at, principal, name, task)
        assert refused.value.code == code
        if code == "model_not_found":
            assert str(refused.value).replace(name, "NAME") == (
                "There is no model 'NAME' that you may use: GET /v1/models lists those that there are."
            )
    with pytest.raises(authorize.Forbidden):
        authorize.administration(principal)
    authorize.administration(builders.replaced(principal, roles=("admin",)))


# --- limits


@given(st.lists(st.tuples(st.floats(0, 120), st.integers(1, 50)), max_size=60))
def test_a_bucket_never_gives_more_than_its_rate_and_its_size(draws) -> None:
    now, bucket, taken = 0.0, limit.full(60, 0.0), 0
    for wait, amount in draws:
        now += wait
        result = limit.take(bucket, 60, amount, now)
        bucket = result.bucket
        taken += 0 if result.wait_s else amount
        assert taken <= 60 + now + 1e-6


def test_a_wait_is_long_enough_and_a_bucket_of_none_gives_none() -> None:
    empty = limit.take(limit.full(60, 0.0), 60, 60, 0.0)
    assert empty.wait_s == 0
    refused = limit.take(empty.bucket, 60, 5, 0.0)
    assert refused.wait_s == pytest.approx(5)
    assert limit.take(refused.bucket, 60, 5, refused.wait_s).wait_s == 0
    assert limit.take(limit.full(0, 0.0), 0, 1, 100.0).wait_s > 0
    assert limit.take(limit.full(10, 0.0), 10, 500, 0.0).bucket.left < 0

"""The hub's pure parts: documents, plans, limits, presence, ledger reports, the broker's rights."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import settings
from orchestrator.access import keys as access
from orchestrator.broker import process as broker_process
from orchestrator.fleet import admission
from orchestrator.fleet.presence import SILENT_S, Presence
from orchestrator.ledger import segments, verify
from orchestrator.ledger.segments import Segment
from orchestrator.routing import plan as plans
from orchestrator.tenants import compiler, document
from sync.audit import chain, checkpoint, proving
from sync.audit.tiles import Edge
from sync.bundle import snapshot
from sync.crypto import keyring, signing
from sync.kit import errors
from sync.kit.clock import ManualClock
from sync.kit.ids import AgentId, Epoch, Region, TenantId
from sync.policy import decide
from sync.policy.decide import Facts
from sync.serving.limits import LimitReached, Limits
from sync.wire import enrolment
from sync.wire.levels import Level, Zone
from sync.wire.messages import Beat
from tests.support import builders

DEMO = (Path(__file__).parents[3] / "packaging/demo/tenants.yaml").read_text()
SMALL = """version: 1
models: {m: {task: generate, deployments: [{folder: m, zones: [on_premise]}]}}
sites: {s: {region: r, jurisdiction: eu}}
tenants:
  - id: t
    allowed_models: [m]
"""


def test_the_demonstrations_document_compiles() -> None:
    bundle = compiler.compile_bundle(
        document.parse(DEMO, "demo"),
        serial=1,
        issued=1.0,
        keys=[builders.key("acme-bank")[1], builders.key("gone")[1]],
        agents=builders.AGENTS,
        content_key=lambda tenant: tenant.encode(),
        hub_key=b"hub",
    )
    assert [t.id for t in bundle.tenants] == ["acme-bank", "saint-mary"]
    assert len(bundle.keys) == 1
    assert bundle.tenants[1].floor is Level.CONFIDENTIAL
    assert [route.level for route in bundle.tenants[0].routes] == list(Level)


MISTAKES = {
    "not YAML": ("version: [", "line 1"),
    "empty": ("", "is empty"),
    "a list": ("- 1", "is empty, or not a mapping"),
    "wrong version": (SMALL.replace("version: 1", "version: 2"), "line 1: version"),
    "unknown field": (SMALL + "    colour: red\n", "line 7: tenants.0.colour"),
    "unknown zone": (SMALL.replace("on_premise", "moon"), "line 2: models.m.deployments.0.zones.0"),
    "unknown model": (SMALL.replace("[m]", "[x]"), "'x' is not in models"),
    "bad name": (SMALL.replace("id: t", "id: A.B"), "line 5: tenants.0.id"),
    "twice the same tenant": (SMALL + "  - {id: t, allowed_models: []}\n", "used twice"),
    "unknown jurisdiction": (SMALL + "    jurisdictions: [us]\n", "no site is in the jurisdiction 'us'"),
    "unknown site": (SMALL + "    sites: [x]\n", "'x' is not in sites"),
    "a rule that does nothing": (SMALL + "    rules: [{id: r, why: w}]\n", "line 7: tenants.0.rules.0"),
    "unknown level": (SMALL + "    security_level: cosmic\n", "line 7: tenants.0.security_level"),
    "an alias": (SMALL + "    name: &a x\n    industry: *a\n", "aliases are not allowed"),
    "nested too deeply": ("a: " + "[" * 50 + "]" * 50, "nested too deeply"),
    "too large": ("#" * (document.MAX_DOCUMENT + 1), "is over"),
    "python tag": ("version: !!python/object:os.system {}", "not YAML"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_document_is_told_with_its_place(name: str) -> None:
    text, said = MISTAKES[name]
    with pytest.raises(document.BadDocument) as told:
        document.parse(text, "tenants.yaml")
    assert said in str(told.value)
    assert "tenants.yaml" in str(told.value)


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_do_anything_but_refuse(text: str) -> None:
    with pytest.raises(document.BadDocument):
        document.parse(text, "x")


# --- routing


def beat(agent: str, **fields: object) -> Beat:
    known = {"boot": "b", "version": "0", "models": ("guide",), "running": 0, "queued": 0, "capacity": 16, "latency_ms": 1.0, "bundle_serial": 1,
             "journal_epoch": "e", "journal_next": 1, "journal_receipted": 0, "journal_proved": 0}  # fmt: skip
    return Beat(agent=AgentId(agent), **{**known, **fields})  # type: ignore[arg-type]


AGENTS = st.lists(st.tuples(st.sampled_from(builders.SITES), st.sampled_from(Zone), st.booleans(), st.integers(0, 20)), max_size=12)


@given(AGENTS, st.sampled_from(Level), st.integers(0, 99))
def test_invariant_1_no_plan_holds_an_agent_outside_the_decision(agents, level, seed) -> None:
    records = tuple(builders.agent(f"a{i}", site.id, zone) for i, (site, zone, _, _) in enumerate(agents))
    at = builders.snap(agents=records)
    presence = Presence()
    for i, (_, _, has_model, running) in enumerate(agents):
        presence.heard(beat(f"a{i}", models=("guide",) if has_model else (), running=running), 0.0, 0.0)
    decision = decide.decide(at, builders.tenant(), Facts(level), builders.model())
    plan = plans.plan(at, TenantId("acme"), decision, presence.here(0.0, at), Region("eu-central-1"), random.Random(seed))
    assert len(plan) <= plans.MAX_TRIES
    assert len({c.agent for c in plan}) == len(plan)
    for choice in plan:
        record = at.agents[choice.agent]
        assert record.zone in decision.zones and at.region_of(record) in decision.regions
        assert agents[int(choice.agent[1:])][2]
    preferences = [decision.zones.index(choice.zone) for choice in plan]
    assert preferences == sorted(preferences)


def test_an_agent_that_is_not_there_is_never_in_the_plan() -> None:
    at, presence = builders.snap(), Presence()
    presence.heard(beat("onprem"), 0.0, 0.0)
    presence.heard(beat("stranger"), 0.0, 0.0)
    assert set(presence.here(1.0, at)) == {"onprem"}
    assert not presence.here(SILENT_S + 0.1, at)
    presence.heard(beat("onprem"), 5.0, 0.0)
    presence.gone(AgentId("onprem"))
    assert not presence.here(5.0, at)
    assert presence.seen(AgentId("nobody")) is None


def test_the_nearest_region_comes_first_and_then_the_less_loaded() -> None:
    records = tuple(
        builders.agent(n, s, Zone.ON_PREMISE)
        for n, s in (("far", "virginia"), ("near", "frankfurt"), ("busy", "frankfurt"), ("mid", "dublin"))
    )
    at, presence = builders.snap(agents=records), Presence()
    for name, running in (("far", 0), ("near", 0), ("busy", 15), ("mid", 0)):
        presence.heard(beat(name, running=running), 0.0, 0.0)
    decision = decide.decide(at, builders.tenant(), Facts(Level.PUBLIC), builders.model(zones=(Zone.ON_PREMISE,)))
    plan = plans.plan(at, TenantId("acme"), decision, presence.here(0.0, at), Region("eu-central-1"), random.Random(1))
    assert [c.agent for c in plan] == ["near", "busy", "mid", "far"]


def test_this_hubs_own_work_counts_before_the_next_beat() -> None:
    presence = Presence()
    presence.heard(beat("a", capacity=4), 0.0, 0.0)
    for _ in range(4):
        presence.began(AgentId("a"))
    seen = presence.seen(AgentId("a"))
    assert seen is not None and seen.load == 1
    presence.ended(AgentId("a"))
    assert presence.seen(AgentId("a")).load < 1  # type: ignore[union-attr]


# --- limits


def test_a_tenant_has_so_many_requests_at_a_time_and_a_minute(clock: ManualClock) -> None:
    tenant = builders.tenant(limits=snapshot.Limits(3, 100, 2, 10))
    limits = Limits(clock)
    with limits.reserve(tenant), limits.reserve(tenant), pytest.raises(LimitReached), limits.reserve(tenant):
        pass
    with limits.reserve(tenant):
        pass
    with pytest.raises(LimitReached) as refused, limits.reserve(tenant):
        pass
    assert refused.value.retry_after_s == 20
    clock.advance(20)
    with limits.reserve(tenant) as reservation:
        reservation.settle(500)
    clock.advance(60)
    with pytest.raises(LimitReached, match="tokens"), limits.reserve(tenant):
        pass
    assert limits.left(tenant).remaining_tokens == 0


# --- admission and keys


def test_an_agent_is_admitted_to_a_place_that_exists(keys: keyring.Keyring) -> None:
    asked = enrolment.Request("edge-1", keys.signer.public_key, keys.opener.public_key, b"")
    sites, known = {site.id: site for site in builders.SITES}, [TenantId("acme")]
    good = {"site": "dublin", "zone": "on_premise", "region": "eu-west-1", "tenants": ["acme"]}
    at = admission.place(**good, sites=sites, known=known)
    agent = admission.agent_of(asked, admission.named("edge-1"), at)
    assert (agent.zone, agent.site, agent.tenants) == (Zone.ON_PREMISE, "dublin", ("acme",))
    for wrong, said in (
        ({"zone": "moon"}, "use on_premise"), ({"site": "nowhere"}, "there are:"), ({"region": "us-east-1"}, "is in eu-west-1"),
        ({"tenants": ["other"]}, "no tenant 'other'"),
    ):  # fmt: skip
        with pytest.raises(errors.Misconfigured, match=said):
            admission.place(**{**good, **wrong}, sites=sites, known=known)
    with pytest.raises(errors.Misconfigured, match="cannot name an agent"):
        admission.named("A.B")


def test_a_key_is_issued_for_a_role_and_a_name() -> None:
    issued = access.issue("acme", "app", "admin")
    assert issued.text not in repr(issued.record)
    for name, role in (("app", "king"), ("not a name", "user")):
        with pytest.raises(errors.Misconfigured):
            access.issue("acme", name, role)


# --- the broker


def test_an_agent_may_use_only_its_own_subjects(keys: keyring.Keyring) -> None:
    admitted = admission.Admitted(builders.agent("edge-1", "dublin", Zone.ON_PREMISE), admission.Certified(b"", b"", 0, 0))
    at = broker_process.Reachable("127.0.0.1", 4222, Path("/c"), Path("/t"), 7422)
    told = json.loads(broker_process.configuration(at, Path("/x"), [admitted]))
    assert told["jetstream"]["sync_interval"] == "always"
    for tls in (told["tls"], told["leafnodes"]["tls"]):
        assert tls["verify_and_map"] and tls["handshake_first"] and tls["min_version"] == "1.3"
    assert told["system_account"] == "SYS" and not told["accounts"]["SYS"]["users"], "nobody is of the server's own account"
    user = told["accounts"]["RINGFENCE"]["users"][1]
    assert user["user"] == "spiffe://ringfence/agent/edge-1"
    rights = user["permissions"]
    for subject in (*rights["publish"], *rights["subscribe"]):
        # Models are for every agent, and so is the hub's heartbeat: both are signed, and hold nothing of a tenant.
        shared = "KV_rf_models" in subject or subject == "rf.v1.hub.beat"
        assert shared or "edge-1" in subject or subject.endswith((".dublin", ".dublin.patch")), subject
        assert not subject.startswith(">") and subject != "$JS.API.>"
    assert "allow_responses" not in rights


# --- the ledger's report


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf as the database has it."""

    tenant: TenantId
    index: int
    author: AgentId
    epoch: Epoch
    sequence: int
    entry: bytes


def ledger(tenants: list[str]) -> tuple[list[Row], dict, list, signing.Signer]:
    signer, me, epoch = signing.Signer(bytes(32)), AgentId("a"), Epoch("e")
    position, trees, rows = chain.start(me, epoch), {}, []
    for number, name in enumerate(tenants):
        tenant = TenantId(name)
        entry = chain.encode(chain.Entry(tenant, me, epoch, number, 1.0, 1.0, "run", position.head, b"", {}))
        tree = trees.get(tenant, Edge())
        rows.append(Row(tenant, tree.size, me, epoch, number, entry))
        trees[tenant], _ = tree.extend([chain.link(entry)])
        position = chain.follow(position, [entry])
    notes = [
        (t, checkpoint.sign(checkpoint.Checkpoint(proving.origin(t, 0), tree.size, tree.root()), proving.SIGNER_NAME, signer))
        for t, tree in trees.items()
    ]
    return rows, {(me, epoch): position}, notes, signer


def report_on(rows, positions, notes, signer) -> verify.Report:
    verifier = verify.Verifier(signer.public_key)
    for tenant in sorted({row.tenant for row in rows} | {tenant for tenant, _ in notes}):
        check = verifier.tenant(tenant, [note for t, note in notes if t == tenant])
        for r in sorted((row for row in rows if row.tenant == tenant), key=lambda row: row.index):
            check.segment(Segment(r.tenant, r.index, r.author, r.epoch, r.sequence, 0.0, segments.pack([(r.sequence, r.entry)])))
        check.finish()
    return verifier.finish(positions.values())


def test_an_intact_ledger_is_reported_so() -> None:
    report = report_on(*ledger(["x", "y", "x", "x", "y"]))
    assert report.intact
    assert (report.records, report.authors, report.tenants, report.checkpoints) == (5, 1, 2, 2)


@given(st.integers(0, 5), st.data())
def test_invariant_5_whatever_is_changed_in_a_ledger_is_reported(at: int, data) -> None:
    rows, positions, notes, signer = ledger(["x", "y", "x", "x", "y", "x"])
    match data.draw(st.sampled_from(["byte", "removed", "swapped", "tenant", "note", "other hub", "cut", "old note"])):
        case "byte":
            entry = bytearray(rows[at].entry)
            entry[data.draw(st.integers(0, len(entry) - 1))] ^= 1
            rows[at] = builders.replaced(rows[at], entry=bytes(entry))
        case "removed":
            del rows[at]
        case "swapped":
            a, b = rows[at], rows[at - 1]
            rows[at], rows[at - 1] = builders.replaced(a, entry=b.entry), builders.replaced(b, entry=a.entry)
        case "tenant":
            rows[at] = builders.replaced(rows[at], tenant=TenantId("z"), index=0)
        case "note":
            notes[0] = (notes[0][0], notes[0][1].replace("\n", "\n\n", 1))
        case "other hub":
            signer = signing.Signer(bytes(range(32)))
        case "cut":
            rows = rows[:-1]
        case "old note":
            notes[0] = (notes[0][0], notes[1][1])
    report = report_on(rows, positions, notes, signer)
    assert not report.intact
    assert report.mistakes[0]


def test_a_record_whose_time_is_over_leaves_the_ledger_provable() -> None:
    rows, positions, notes, signer = ledger(["x", "y", "x", "x"])
    for gone in (0, 2, 3):
        rows[gone] = builders.replaced(rows[gone], entry=chain.link(rows[gone].entry))
    report = report_on(rows, positions, notes, signer)
    assert report.intact and report.expired == 3
    rows[2] = builders.replaced(rows[2], entry=bytes(32))
    assert not report_on(rows, positions, notes, signer).intact


def test_a_segment_that_is_not_readable_is_reported() -> None:
    _, _, notes, signer = ledger(["x", "x"])
    for packed in (b"\xc1", b"\x01", b"\x91\x01"):
        verifier = verify.Verifier(signer.public_key)
        check = verifier.tenant(TenantId("x"), [note for _, note in notes])
        check.segment(Segment(TenantId("x"), 0, AgentId("a"), Epoch("e"), 0, 0.0, packed))
        assert any("not readable" in mistake for mistake in verifier.report.mistakes)


def test_settings_are_read_with_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_HTTP_PORT", "1234")
    assert settings.read().http_port == 1234
    assert settings.read(http_port=99, region=None).http_port == 99
    monkeypatch.setenv("RINGFENCE_HTTP_PORT", "many")
    with pytest.raises(errors.Misconfigured, match="RINGFENCE_HTTP_PORT"):
        settings.read()

"""Golden bytes: what version 1 of the wire looks like. A change here is a change of the protocol."""

from __future__ import annotations

from sync.audit import chain
from sync.bundle import patch, snapshot
from sync.bundle.snapshot import Classification
from sync.kit.ids import AgentId, DecisionId, Epoch, RequestId, SiteId, TenantId
from sync.wire import codec, messages, renewal
from sync.wire.levels import Level
from sync.wire.messages import (
    Accepted,
    Beat,
    BundleNotice,
    Cancel,
    Chunk,
    Content,
    Credit,
    Done,
    Envelope,
    Erase,
    Erased,
    Failed,
    Forward,
    Hello,
    HubBeat,
    Leaves,
    OrderTaken,
    Pin,
    Ping,
    Placed,
    Pong,
    Proof,
    ProofRequest,
    Receipt,
    Sealed,
    TreeProof,
    Upgrade,
    Welcome,
)
from sync.wire.renewal import Renewal, Renewed
from tests.support import builders

R = RequestId("req_1")
GOLDEN = {
    "accepted": (Accepted(R), "9301a8616363657074656481a772657175657374a57265715f31"),
    "chunk": (
        Chunk(R, 3, "hé"),
        "9301a56368756e6b85a772657175657374a57265715f31a873657175656e636503a474657874a368c3a9a663686f69636500a673636f726573c400",
    ),
    "credit": (Credit(R, 9), "9301a663726564697482a772657175657374a57265715f31a47570746f09"),
    "cancel": (Cancel(R), "9301a663616e63656c81a772657175657374a57265715f31"),
    "ping": (Ping(R), "9301a470696e6781a772657175657374a57265715f31"),
    "pong": (Pong(True), "9301a4706f6e6781a7776f726b696e67c3"),
    "bundle_notice": (
        BundleNotice(SiteId("dublin"), 7),
        "9301ad62756e646c655f6e6f7469636582a473697465a66475626c696ea673657269616c07",
    ),
}
DIGESTS = {
    "run": (builders.run(), "9cee93cd71b22e98bb9f7f4080112200"),
    "done": (
        Done(
            request=R, result=b"\x80", prompt_tokens=1, completion_tokens=2, finish="stop", cached=False, chunks=0, compute_ms=1.5
        ),
        "b1492627eac7b2638b85029a5229d11f",
    ),
    "failed": (Failed(R, "overloaded", "Full.", True, 2.0), "e5523def86f08f1f9218106943f3e866"),
    "sealed": (Sealed("s1", b"k", b"g", b"b"), "fb0b8d58481aa22754d16884fd8b24e9"),
    "beat": (
        Beat(
            agent=AgentId("a"),
            boot="b",
            version="0",
            models=("guide",),
            running=1,
            queued=0,
            capacity=16,
            latency_ms=2.5,
            bundle_serial=3,
            journal_epoch=Epoch("e"),
            journal_next=9,
            journal_receipted=4,
            journal_proved=2,
        ),
        "8f46511805cf7b275bf2af8afa5e0568",
    ),
    "beat with what was added": (
        Beat(
            agent=AgentId("a"),
            boot="b",
            version="0",
            models=("guide",),
            running=1,
            queued=0,
            capacity=16,
            latency_ms=2.5,
            bundle_serial=3,
            journal_epoch=Epoch("e"),
            journal_next=9,
            journal_receipted=4,
            journal_proved=2,
            on_trial=True,
            failed_release="0.2.0",
            clock=1_700_000_000.5,
            wire=2,
        ),
        "ae87005851ec16d38227c002b756e329",
    ),
    "envelope": (
        Envelope(
            agent=AgentId("a"), epoch=Epoch("e"), first=0, entries=(b"x",), signature=b"s", contents=(Content(0, b"c", b"k"),)
        ),
        "59198b547a8807c70315ff8e1d114b8f",
    ),
    "receipt": (
        Receipt(agent=AgentId("a"), epoch=Epoch("e"), upto=1, head=b"h", time=2.0, signature=b"s"),
        "bac5184a14f4d3b57b41741aaa017599",
    ),
    "forward": (
        Forward(
            request=R,
            key="rf_live_x",
            task="generate",
            model="guide",
            texts=("hello",),
            payload=b"\x80",
            stream=True,
            max_tokens=9,
            declared=Level.PUBLIC,
            no_store=False,
            batch=False,
            trace="",
            subject="jane",
        ),
        "66974cd882539c7714bd996114561fc0",
    ),
    "placed": (
        Placed(request=R, level=Level.INTERNAL, decision=DecisionId("dec_1"), zone="on_premise", region="eu-central-1", agent="a"),
        "d0390209dafc9abf0f166362e44dc074",
    ),
    "hello": (Hello(AgentId("a"), b"n"), "ec332a67845b938f511ffcadf8781b0e"),
    "welcome": (Welcome(b"n", 1.0, b"s"), "ef8d203d52aebf5480d6605159bf9b85"),
    "erase": (Erase("era_1", AgentId("a"), Epoch("e"), (1, 2), b"s"), "a65af5ec81424845296f1fa43cd9a300"),
    "erased": (Erased("era_1", AgentId("a"), b"s"), "7e3bd5b1eab98bebcfa8989b1a56c100"),
    "upgrade": (Upgrade(AgentId("a"), "0.2.0", b"s"), "97a0fc0731810f8d5c17c54ff7fe4163"),
    "order_taken": (OrderTaken("busy", "one is at work"), "6dc91029d17a02c1f85abb077c2677d1"),
    "renewal": (Renewal(AgentId("a"), b"c", b"r", b"p", b"s"), "04c789bebc2ccdb45788d48001afe7ae"),
    "renewed": (Renewed(b"c", b"t", "", "", b"s"), "3ca8dc42b25694ab0dc9c1804a19beb1"),
    "hub_beat": (HubBeat(1.0, 7, b"s"), "a1c0b64d2d559f9521a8f029398487f8"),
    "proof_request": (
        ProofRequest(
            agent=AgentId("a"),
            epoch=Epoch("e"),
            first=3,
            pins=(Pin("ringfence/ledger/t", 9),),
            next=12,
            head=b"h",
            wall=1.0,
            signature=b"s",
        ),
        "0ab7e87dc3d48056315a080e82106f4b",
    ),
    "proof": (
        Proof(AgentId("a"), Epoch("e"), 3, 4, (TreeProof(TenantId("t"), "note", (Leaves(2, 1),), (b"h",), (b"c",)),)),
        "98e2de7f2a07ba8a449d64fa89a2741d",
    ),
    "bundle_patch": (patch.Patch(3, b"\x80", (patch.Part("keys", ("k",), (b"\x80",)),), b"s"), "e933e16be51e169565d70640fb15f7e5"),
    # The level is written out, as its default is a tenant's setting and not part of the protocol.
    "bundle": (
        builders.bundle(tenants=(builders.tenant(classification=Classification(over_budget=Level.CONFIDENTIAL)),)),
        "48d7feb6f6c91ff567577283d8d521ae",
    ),
}


def test_frames_are_the_golden_bytes() -> None:
    for name, (message, golden) in GOLDEN.items():
        assert codec.encode(message).hex() == golden, name
        assert codec.decode(bytes.fromhex(golden), type(message)) == message, name


def test_larger_frames_have_the_golden_digests() -> None:
    from sync.crypto import digest

    for name, (message, golden) in DIGESTS.items():
        assert digest.sha256(codec.encode(message)).hex()[:32] == golden, name
        assert codec.decode(codec.encode(message), type(message)) == message, name


def test_an_audit_record_is_the_golden_bytes() -> None:
    entry = chain.Entry(TenantId("t"), AgentId("a"), Epoch("e"), 0, 1.0, 2.0, "run", chain.GENESIS, b"", {"n": 1})
    data = chain.encode(entry)
    assert data.hex() == ("9b01a174a161a16500cb3ff0000000000000cb4000000000000000a372756ec420" + "00" * 32 + "c40081a16e01")
    assert chain.link(data).hex() == "b3b0d7c8c10faeebd934501615139cfe9fdb2dc599a84630741c8ec7bd000be0"


def test_every_kind_of_frame_has_a_vector() -> None:
    kinds = {message.KIND for message, _ in (*GOLDEN.values(), *DIGESTS.values())}
    defined = {
        kind.KIND
        for module in (messages, snapshot, patch, renewal)
        for kind in vars(module).values()
        if isinstance(getattr(kind, "KIND", None), str)
    }
    assert defined - {"signed_bundle"} == kinds

"""How an author comes to know that its records are in the hub's trees: it asks, and checks what it is shown. Pure.

An author's records lie in many tenants' trees, and in each of them in many places: one proof a tree shows them all. The author
pins each checkpoint that it has verified, so that a hub that rewrites its trees, or shows others another tree, is found out.

Invariants, each with a test of its words:
- a record counts as proved only under a checkpoint that the hub signed and a proof that leads from the record's own bytes to it;
- a checkpoint that does not contain the pinned tree is refused, and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sync.audit import chain, checkpoint, merkle
from sync.audit.checkpoint import Checkpoint
from sync.crypto import digest, signing
from sync.kit import errors
from sync.kit.ids import TenantId
from sync.wire import codec
from sync.wire.messages import Pin, Proof, ProofRequest, TreeProof
from sync.wire.types import replace

SIGNER_NAME = "ringfence-hub"
ORIGIN = "ringfence/ledger"
MOST = 4096
"""Records that one proof may show."""


class Rewritten(errors.Corrupt):
    """The hub shows a tree that does not contain the one that it signed before."""

    code = "ledger_rewritten"


def origin(tenant: TenantId, generation: int) -> str:
    """The first line of a tenant's checkpoints. The generation counts the ledger's restorations from a backup."""
    return f"{ORIGIN}/{tenant}" if generation == 0 else f"{ORIGIN}/{tenant}/{generation}"


def generation_of(name: str, tenant: TenantId) -> int:
    """Which generation of the tenant's ledger an origin names. Raises Corrupt where it is of another log."""
    rest = name.removeprefix(f"{ORIGIN}/{tenant}")
    if rest == "":
        return 0
    if name.startswith(f"{ORIGIN}/{tenant}/") and rest[1:].isascii() and rest[1:].isdigit():
        return int(rest[1:])
    raise errors.Corrupt(f"A checkpoint of another log, {name[:100]}, came for '{tenant}'.", code="bad_checkpoint")


@dataclass(frozen=True, slots=True)
class Pinned:
    """The newest checkpoint of a tenant's tree that was verified here."""

    tenant: TenantId
    note: str

    @property
    def tree(self) -> Checkpoint:
        return checkpoint.unverified(self.note)

    @property
    def pin(self) -> Pin:
        return Pin(self.tree.origin, self.tree.size)


@dataclass(frozen=True, slots=True)
class Proved:
    """What a good proof comes to: the records below `upto` are covered, by these checkpoints."""

    upto: int
    pins: tuple[Pinned, ...]
    restarted: tuple[TenantId, ...]
    """Tenants whose ledger has begun a new generation: it was restored from a backup, or says so."""


def request(position: chain.Position, first: int, pins: Sequence[Pinned], wall: float, signer: signing.Signer) -> ProofRequest:
    """An author's signed request; it says where the author's journal stands, so that what never comes is missed."""
    made = ProofRequest(
        agent=position.author,
        epoch=position.epoch,
        first=first,
        pins=tuple(p.pin for p in pins),
        next=position.next,
        head=position.head,
        wall=wall,
        signature=b"",
    )
    return replace(made, signature=signer.sign(signing.JOURNAL_HEAD, _request_bytes(made)))


def check_request(asked: ProofRequest, key: signing.PublicKey) -> None:
    """Returns where the author signed it. Raises Corrupt."""
    signing.verify(key, signing.JOURNAL_HEAD, _request_bytes(asked), asked.signature)


def nothing(asked: ProofRequest) -> Proof:
    """The answer where no checkpoint covers anything new."""
    return Proof(asked.agent, asked.epoch, asked.first, asked.first, ())


def seen(pins: Sequence[Pinned]) -> bytes:
    """What an author's next records say of the hub's checkpoints that it has verified."""
    return digest.of("hub-seen", codec.pack(tuple((pin.tenant, pin.note) for pin in pins)))


def check(proof: Proof, entries: Sequence[bytes], pins: Mapping[TenantId, Pinned], hub: signing.PublicKey) -> Proved:
    """What the proof shows of the author's own entries, which begin with `proof.first`. Raises Corrupt where it shows less."""
    if not 0 < proof.upto - proof.first <= len(entries):
        raise errors.Corrupt(f"A proof of records {proof.first} to {proof.upto - 1} came, which were not asked for.")
    own: dict[TenantId, list[bytes]] = {}
    for entry in entries[: proof.upto - proof.first]:
        own.setdefault(chain.tenant_of(entry), []).append(chain.link(entry))
    fresh: list[Pinned] = []
    restarted: list[TenantId] = []
    for tree in proof.trees:
        signed = checkpoint.verify(tree.note, SIGNER_NAME, hub)
        _check_inclusion(tree, signed, own.pop(tree.tenant, []))
        if _check_growth(tree, signed, pins.get(tree.tenant)):
            restarted.append(tree.tenant)
        fresh.append(Pinned(tree.tenant, tree.note))
    if own:
        raise errors.Corrupt(f"A proof shows nothing of the records of '{next(iter(own))}'.")
    return Proved(proof.upto, tuple(fresh), tuple(restarted))


def _check_inclusion(tree: TreeProof, signed: Checkpoint, links: list[bytes]) -> None:
    """Returns where these hashes stand at the given leaves of the signed tree."""
    covered = [(part.first, part.first + part.count) for part in tree.leaves]
    places = [index for low, high in covered for index in range(low, min(high, low + MOST))]
    if len(places) != len(links) or places != sorted(set(places)) or (places and not 0 <= places[0] <= places[-1] < signed.size):
        raise errors.Corrupt(f"A proof of {len(places)} records came for the {len(links)} of '{tree.tenant}'.")
    found = merkle.coverage_root(covered, dict(zip(places, links, strict=True)), signed.size, tree.inclusion)
    if found != signed.root:
        raise merkle.BadProof(f"The records of '{tree.tenant}' are not in the tree that the hub signed.")


def _check_growth(tree: TreeProof, signed: Checkpoint, pinned: Pinned | None) -> bool:
    """Whether the tree is of a new generation; returns only where it contains the pinned one otherwise. Raises Rewritten."""
    generation = generation_of(signed.origin, tree.tenant)
    if pinned is None:
        return False
    before = pinned.tree
    old = generation_of(before.origin, tree.tenant)
    if generation > old:
        return True
    try:
        if generation < old:
            raise merkle.BadProof("an earlier generation came back")
        merkle.verify_consistency(before.size, before.root, signed.size, signed.root, tree.consistency)
    except merkle.BadProof as error:
        raise Rewritten(
            f"The hub's ledger of '{tree.tenant}' with {signed.size} records does not contain the one with {before.size} "
            "that it signed before: one of the two was rewritten. Both checkpoints are kept as evidence.",
            tenant=tree.tenant, before=pinned.note, now=tree.note,
        ) from error  # fmt: skip
    return False


def _request_bytes(asked: ProofRequest) -> bytes:
    pins = tuple((pin.origin, pin.size) for pin in asked.pins)
    return codec.pack((asked.agent, asked.epoch, asked.first, pins, asked.next, asked.head, asked.wall))

"""Tiles against the definition of the tree, proofs of many leaves, checkpoints with witnesses, and an author's own check of the hub."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.audit import chain, checkpoint, merkle, proving, tiles
from sync.audit.checkpoint import Checkpoint
from sync.audit.proving import Pinned
from sync.audit.tiles import Edge
from sync.crypto import signing
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch, TenantId
from sync.wire.messages import Leaves, Proof, TreeProof
from tests.support import builders

ME, EPOCH = AgentId("agent-1"), Epoch("e1")
SIGNER, HUB = signing.Signer(bytes(range(32))), signing.Signer(bytes(range(1, 33)))
LEAVES = [chain.link(b"%d" % n) for n in range(70_000)]


class Grown:
    """A tree that was grown in pieces, with its tiles."""

    def __init__(self, size: int, seed: int = 0, leaves: list[bytes] = LEAVES) -> None:
        rng, self.edge, self.tiles = random.Random(seed), Edge(), {}
        at = 0
        while at < size:
            step = min(rng.randint(1, 700), size - at)
            self.edge, full = self.edge.extend(leaves[at : at + step])
            self.tiles.update({(tile.level, tile.index): tile for tile in full})
            at += step

    def read(self, level: int, index: int) -> bytes:
        tile = self.tiles.get((level, index))
        return tile.hashes if tile else b"".join(self.edge.levels[level])

    def roots(self, ranges: list[merkle.Range]) -> list[bytes]:
        wanted = tiles.needed(ranges)
        found = {place: self.read(*place) for place in wanted}
        return tiles.roots(ranges, lambda level, index: found[level, index])


# --- tiles


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000])
def test_the_root_is_that_of_rfc_6962_at_every_size(size: int) -> None:
    grown = Grown(size, seed=size)
    assert grown.edge.root() == merkle.fold(LEAVES[:size])
    assert grown.edge.size == size
    for tile in grown.tiles.values():
        assert merkle.fold([tile.hashes[i : i + 32] for i in range(0, len(tile.hashes), 32)]) == tile.root


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70_000), st.data())
def test_every_proof_comes_from_the_tiles_that_it_names(size: int, data) -> None:
    grown = Grown(size, seed=size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    inclusion = grown.roots(merkle.inclusion_path(index, size))
    assert len(inclusion) <= 17
    merkle.verify_inclusion(LEAVES[index], index, size, inclusion, grown.edge.root())
    consistency = grown.roots(merkle.consistency_path(old, size))
    merkle.verify_consistency(old, merkle.fold(LEAVES[:old]), size, grown.edge.root(), consistency)


def test_a_tile_that_lacks_a_hash_is_no_proof() -> None:
    with pytest.raises(merkle.BadProof, match="Tile 0/0 lacks"):
        tiles.roots([(0, 4)], lambda level, index: b"x" * 64)


# --- many leaves at once


def ranges_of(picked: set[int]) -> list[merkle.Range]:
    found: list[merkle.Range] = []
    for index in sorted(picked):
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


@given(st.integers(1, 300), st.data())
def test_one_proof_shows_many_leaves_and_no_others(size: int, data) -> None:
    picked = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=30))
    covered, leaves = ranges_of(picked), {index: LEAVES[index] for index in picked}
    proof = [merkle.fold(LEAVES[low:high]) for low, high in merkle.coverage_path(covered, size)]
    root = merkle.fold(LEAVES[:size])
    assert merkle.coverage_root(covered, leaves, size, proof) == root
    other = data.draw(st.sampled_from(sorted(picked)))
    assert merkle.coverage_root(covered, {**leaves, other: chain.link(b"other")}, size, proof) != root
    with pytest.raises(merkle.BadProof, match="too long"):
        merkle.coverage_root(covered, leaves, size, [*proof, root])
    if proof:
        with pytest.raises(merkle.BadProof, match="too short"):
            merkle.coverage_root(covered, leaves, size, proof[:-1])


# --- witnesses


def test_a_witness_signs_a_note_and_says_when() -> None:
    note = checkpoint.sign(Checkpoint("ringfence/ledger/t", 3, bytes(32)), "hub", HUB)
    line = checkpoint.cosign(note, "witness.example/one", SIGNER, 1_700_000_000)
    assert checkpoint.verify_cosignature(note + line, "witness.example/one", SIGNER.public_key) == 1_700_000_000
    assert checkpoint.verify(note + line, "hub", HUB.public_key).size == 3
    for text, name, key in (
        (note, "witness.example/one", SIGNER.public_key), (note + line, "other", SIGNER.public_key),
        (note + line, "witness.example/one", HUB.public_key),
        (note.replace("\n3\n", "\n4\n") + line, "witness.example/one", SIGNER.public_key),
    ):  # fmt: skip
        with pytest.raises(checkpoint.BadCheckpoint):
            checkpoint.verify_cosignature(text, name, key)


def test_a_verifier_key_names_its_signer() -> None:
    text = checkpoint.verifier_key("w", SIGNER.public_key, checkpoint.COSIGNATURE)
    assert checkpoint.read_verifier_key(text, checkpoint.COSIGNATURE) == ("w", SIGNER.public_key)
    for wrong in ("", "w", "w+00000000+AAAA", text.replace("w+", "v+"), text[:-8], f"{text}!"):
        with pytest.raises(checkpoint.BadCheckpoint):
            checkpoint.read_verifier_key(wrong, checkpoint.COSIGNATURE)
    with pytest.raises(checkpoint.BadCheckpoint):
        checkpoint.read_verifier_key(text)


# --- an author checks the hub


def journal(tenants: str) -> list[bytes]:
    """Entries of one author, each of the tenant that its letter names."""
    found: list[bytes] = []
    head = chain.GENESIS
    for number, name in enumerate(tenants):
        entry = chain.Entry(TenantId(name), ME, EPOCH, number, 1.0, 1.0, "run", head, b"", {"n": number})
        found.append(chain.encode(entry))
        head = chain.link(found[-1])
    return found


class Ledger:
    """Two tenants' trees in which strangers' leaves stand between the author's own."""

    def __init__(self, entries: list[bytes], generation: int = 0) -> None:
        self.generation = generation
        self.leaves: dict[TenantId, list[bytes]] = {}
        self.places: list[tuple[TenantId, int]] = []
        for number, entry in enumerate(entries):
            tenant = chain.tenant_of(entry)
            tree = self.leaves.setdefault(tenant, [])
            tree += [chain.link(b"stranger %d %d" % (number, n)) for n in range(number % 3)]
            self.places.append((tenant, len(tree)))
            tree.append(chain.link(entry))

    def note(self, tenant: TenantId, size: int | None = None) -> str:
        leaves = self.leaves[tenant][:size]
        return checkpoint.sign(
            Checkpoint(proving.origin(tenant, self.generation), len(leaves), merkle.fold(leaves)), proving.SIGNER_NAME, HUB
        )

    def prove(self, first: int, upto: int, pins: dict[TenantId, Pinned]) -> Proof:
        trees = []
        for tenant in dict.fromkeys(tenant for tenant, _ in self.places[first:upto]):
            leaves = self.leaves[tenant]
            covered = ranges_of({index for name, index in self.places[first:upto] if name == tenant})
            pinned = pins.get(tenant)
            old = pinned.tree.size if pinned else 0
            roots = [
                tuple(merkle.fold(leaves[low:high]) for low, high in path)
                for path in (
                    merkle.coverage_path(covered, len(leaves)),
                    merkle.consistency_path(old, len(leaves)) if old < len(leaves) else [],
                )
            ]
            told = tuple(Leaves(low, high - low) for low, high in covered)
            trees.append(TreeProof(tenant, self.note(tenant), told, roots[0], roots[1]))
        return Proof(ME, EPOCH, first, upto, tuple(trees))


ENTRIES = journal("ababbaabab" * 3)


def test_a_record_counts_as_proved_only_under_the_hubs_checkpoint() -> None:
    ledger = Ledger(ENTRIES)
    proof = ledger.prove(0, 20, {})
    proved = proving.check(proof, ENTRIES, {}, HUB.public_key)
    assert proved.upto == 20 and {pin.tenant for pin in proved.pins} == {"a", "b"}
    other = [*ENTRIES[:7], ENTRIES[6], *ENTRIES[8:]]
    tree = proof.trees[0]
    wrong = {
        "another record": (proof, other, HUB),
        "another signer": (proof, ENTRIES, SIGNER),
        "fewer records": (builders.replaced(proof, upto=19), ENTRIES, HUB),
        "more records than there are": (builders.replaced(proof, upto=99), ENTRIES, HUB),
        "a tree left out": (builders.replaced(proof, trees=proof.trees[:1]), ENTRIES, HUB),
        "a hash left out": (builders.replaced(proof, trees=(builders.replaced(tree, inclusion=tree.inclusion[1:]), proof.trees[1])), ENTRIES, HUB),
        "leaves twice": (builders.replaced(proof, trees=(builders.replaced(tree, leaves=(tree.leaves[0], *tree.leaves)), proof.trees[1])), ENTRIES, HUB),
        "leaves outside the tree": (
            builders.replaced(proof, trees=(builders.replaced(tree, leaves=(Leaves(10_000, 10),)), proof.trees[1])), ENTRIES, HUB,
        ),
        "a huge count": (
            builders.replaced(proof, trees=(builders.replaced(tree, leaves=(Leaves(0, 1 << 60),)), proof.trees[1])), ENTRIES, HUB,
        ),
        "nothing": (builders.replaced(proof, upto=0), ENTRIES, HUB),
    }  # fmt: skip
    for name, (shown, entries, signer) in wrong.items():
        with pytest.raises(errors.Corrupt):
            proving.check(shown, entries, {}, signer.public_key)
            pytest.fail(name)


def test_a_ledger_that_grew_is_taken_and_one_that_was_rewritten_is_named() -> None:
    before = Ledger(ENTRIES[:15])
    pins = {pin.tenant: pin for pin in proving.check(before.prove(0, 15, {}), ENTRIES, {}, HUB.public_key).pins}
    after = Ledger(ENTRIES)
    assert proving.check(after.prove(15, 30, pins), ENTRIES[15:], pins, HUB.public_key).upto == 30
    rewritten = Ledger(ENTRIES)
    rewritten.leaves[TenantId("a")][0] = chain.link(b"never happened")
    with pytest.raises(proving.Rewritten, match="does not contain") as found:
        proving.check(rewritten.prove(15, 30, pins), ENTRIES[15:], pins, HUB.public_key)
    assert found.value.fields["before"] == pins[TenantId("a")].note


def test_a_new_generation_is_taken_and_told_and_an_old_one_is_not() -> None:
    before = Ledger(ENTRIES, generation=1)
    pins = {pin.tenant: pin for pin in proving.check(before.prove(0, 30, {}), ENTRIES, {}, HUB.public_key).pins}
    restored = Ledger(ENTRIES[:20], generation=2)
    proved = proving.check(restored.prove(10, 20, {}), ENTRIES[10:], pins, HUB.public_key)
    assert set(proved.restarted) == {"a", "b"}
    with pytest.raises(proving.Rewritten):
        proving.check(Ledger(ENTRIES).prove(0, 30, {}), ENTRIES, pins, HUB.public_key)


def test_a_checkpoint_of_another_tenants_log_proves_nothing() -> None:
    ledger = Ledger(ENTRIES)
    proof = ledger.prove(0, 20, {})
    swapped = builders.replaced(proof, trees=(builders.replaced(proof.trees[0], note=ledger.note(TenantId("b"))), proof.trees[1]))
    with pytest.raises(errors.Corrupt):
        proving.check(swapped, ENTRIES, {}, HUB.public_key)
    for name, tenant in (("ringfence/ledger/ab", "a"), ("ringfence/ledger/a/x", "a"), ("other/a", "a")):
        with pytest.raises(errors.Corrupt):
            proving.generation_of(name, TenantId(tenant))


def test_a_request_for_proofs_is_its_authors_own() -> None:
    position = chain.follow(chain.start(ME, EPOCH), ENTRIES)
    asked = proving.request(position, 3, (), 1.0, SIGNER)
    proving.check_request(asked, SIGNER.public_key)
    for changed in (builders.replaced(asked, first=4), builders.replaced(asked, next=9), builders.replaced(asked, wall=2.0)):
        with pytest.raises(errors.Corrupt):
            proving.check_request(changed, SIGNER.public_key)
    assert proving.nothing(asked).upto == 3


def test_the_quick_check_of_a_chain_refuses_what_the_slow_one_does() -> None:
    """Every byte of an entry, flipped: the chain as a whole never passes as the same one."""
    good = journal("aba")
    end = chain.follow(chain.start(ME, EPOCH), good)
    for at in range(len(good[1])):
        bad = bytearray(good[1])
        bad[at] ^= 0xFF
        try:
            reached = chain.follow(chain.start(ME, EPOCH), [good[0], bytes(bad), good[2]])
        except errors.Corrupt:
            continue
        assert reached != end
    assert chain.wall_of(good[2]) == 1.0
    with pytest.raises(errors.Corrupt):
        chain.tenant_of(b"\x9b\x01")

"""The chain, the tree, checkpoints and replication: pure, and against a naive model."""

from __future__ import annotations

import random

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.audit import chain, checkpoint, merkle, replication
from sync.audit.replication import Cursor, Outcome
from sync.crypto import digest, signing
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch, TenantId
from tests.support import builders

ME, EPOCH = AgentId("agent-1"), Epoch("e1")
SIGNER = signing.Signer(bytes(range(32)))
HUB = signing.Signer(bytes(range(1, 33)))


def entries(count: int, author: AgentId = ME, epoch: Epoch = EPOCH) -> list[bytes]:
    found: list[bytes] = []
    head = chain.GENESIS
    for number in range(count):
        entry = chain.Entry(TenantId("t"), author, epoch, number, 1.0 + number, 0.5, "run", head, b"", {"n": number})
        found.append(chain.encode(entry))
        head = chain.link(found[-1])
    return found


def hashes(leaves: list[bytes], ranges: list[merkle.Range]) -> list[bytes]:
    """The roots of ranges, the slow way."""
    return [merkle.fold(leaves[low:high]) for low, high in ranges]


# --- invariant 5: tampering shows


def test_a_chain_is_followed_from_its_start_to_its_signed_head() -> None:
    position = chain.follow(chain.start(ME, EPOCH), entries(20))
    assert position.next == 20
    chain.verify_head(position, SIGNER.public_key, chain.sign_head(position, SIGNER))
    assert chain.decode(entries(3)[2]).fields == {"n": 2}


@given(st.integers(2, 12), st.data())
def test_invariant_5_a_changed_removed_reordered_or_inserted_entry_is_found(count: int, data) -> None:
    good = entries(count)
    position = chain.follow(chain.start(ME, EPOCH), good)
    signature = chain.sign_head(position, SIGNER)
    bad = list(good)
    at = data.draw(st.integers(0, count - 1))
    match data.draw(st.sampled_from(["change", "remove", "swap", "insert", "cut"])):
        case "change":
            flipped = bytearray(bad[at])
            flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            bad[at] = bytes(flipped)
        case "remove":
            del bad[at]
        case "swap":
            other = data.draw(st.integers(0, count - 1).filter(lambda i: i != at))
            bad[at], bad[other] = bad[other], bad[at]
        case "insert":
            bad.insert(at, entries(count, epoch=Epoch("e2"))[at])
        case "cut":
            bad = bad[:at]
    with pytest.raises(errors.Corrupt):
        chain.verify_head(chain.follow(chain.start(ME, EPOCH), bad), SIGNER.public_key, signature)
        raise chain.Broken("the head fits") if chain.follow(chain.start(ME, EPOCH), bad) == position else AssertionError


def test_a_broken_chain_is_named_by_its_number() -> None:
    bad = entries(6)
    bad[3] = bad[3].replace(b"run", b"ran")
    with pytest.raises(chain.Broken, match="record 4 of agent-1") as broken:
        chain.follow(chain.start(ME, EPOCH), bad)
    assert broken.value.fields["sequence"] == 4


def test_an_entry_over_the_cap_is_not_made_or_read() -> None:
    entry = chain.decode(entries(1)[0])
    with pytest.raises(errors.Refused):
        chain.encode(builders.replaced(entry, fields={"x": "y" * chain.MAX_ENTRY}))
    with pytest.raises(errors.Corrupt):
        chain.decode(bytes(chain.MAX_ENTRY + 1))
    with pytest.raises(errors.Corrupt):
        chain.decode(b"\x93\x01\x02\x03")


# --- the Merkle tree


@given(st.lists(st.binary(max_size=20), max_size=70))
def test_the_folded_root_is_that_of_the_oracle(data: list[bytes]) -> None:
    oracle = pymerkle.InmemoryTree(algorithm="sha256")
    for raw in data:
        oracle.append_entry(raw)
    assert merkle.fold([chain.link(d) for d in data]) == (oracle.get_root() if data else merkle.EMPTY_ROOT)


@given(st.integers(1, 80), st.data())
def test_an_inclusion_proof_leads_to_the_root_and_no_other_leaf_does(size: int, data) -> None:
    leaves = [chain.link(bytes([i])) for i in range(size)]
    index = data.draw(st.integers(0, size - 1))
    root, proof = merkle.fold(leaves), hashes(leaves, merkle.inclusion_path(index, size))
    merkle.verify_inclusion(leaves[index], index, size, proof, root)
    with pytest.raises(merkle.BadProof):
        merkle.verify_inclusion(chain.link(b"other"), index, size, proof, root)
    if size > 1:
        with pytest.raises(merkle.BadProof):
            merkle.verify_inclusion(leaves[index], (index + 1) % size, size, proof, root)
    with pytest.raises(merkle.BadProof):
        merkle.verify_inclusion(leaves[index], index, size, [*proof, root], root)
    with pytest.raises(merkle.BadProof):
        merkle.verify_inclusion(leaves[index], size, size, proof, root)


@given(st.integers(0, 60), st.integers(0, 60), st.data())
def test_a_consistency_proof_shows_a_prefix_and_nothing_else(old: int, more: int, data) -> None:
    new = old + more
    leaves = [chain.link(bytes([i])) for i in range(new)]
    old_root, new_root = merkle.fold(leaves[:old]), merkle.fold(leaves)
    proof = hashes(leaves, merkle.consistency_path(old, new))
    merkle.verify_consistency(old, old_root, new, new_root, proof)
    forged = list(leaves)
    if old:
        forged[data.draw(st.integers(0, old - 1))] = chain.link(b"forged")
        with pytest.raises(merkle.BadProof):
            merkle.verify_consistency(old, merkle.fold(forged[:old]), new, new_root, proof)
        with pytest.raises(merkle.BadProof):
            forged_proof = hashes(forged, merkle.consistency_path(old, new))
            merkle.verify_consistency(old, old_root, new, merkle.fold(forged), forged_proof)
    with pytest.raises(merkle.BadProof):
        merkle.verify_consistency(new + 1, old_root, new, new_root, proof)
    with pytest.raises(merkle.BadProof):
        merkle.verify_consistency(old, old_root, new, new_root, [*proof, new_root])
    if 0 < old < new:
        with pytest.raises(merkle.BadProof):
            merkle.verify_consistency(old, old_root, new, new_root, [])


# --- checkpoints


def test_a_checkpoint_is_a_signed_note_that_only_its_signer_could_write() -> None:
    note = checkpoint.sign(checkpoint.Checkpoint("ringfence/ledger/t", 7, bytes(32)), "hub", HUB)
    assert note.split("\n")[:3] == ["ringfence/ledger/t", "7", "A" * 43 + "="]
    assert checkpoint.verify(note, "hub", HUB.public_key).size == 7
    for name, key, text in (
        ("hub", SIGNER.public_key, note), ("other", HUB.public_key, note), ("hub", HUB.public_key, note.replace("\n7\n", "\n8\n")),
        ("hub", HUB.public_key, "nothing"), ("hub", HUB.public_key, note.replace("— hub ", "— hub !")), ("hub", HUB.public_key, "x" * 9999),
    ):  # fmt: skip
        with pytest.raises(checkpoint.BadCheckpoint):
            checkpoint.verify(text, name, key)


def test_a_malformed_size_is_refused_even_when_signed() -> None:
    for body in ("origin\n-1\nAAAA\n", "origin\n1\n!!\n", "origin\n"):
        name = "hub"
        key_id = digest.sha256(name.encode() + b"\n\x01" + HUB.public_key)[:4]
        import base64

        note = f"{body}\n— hub {base64.b64encode(key_id + HUB.sign_note(body.encode())).decode()}\n"
        with pytest.raises(checkpoint.BadCheckpoint):
            checkpoint.verify(note, name, HUB.public_key)


# --- replication


class Replication:
    """An author and a hub with a line between them that drops, repeats and reorders, and both of which may die."""

    def __init__(self, count: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.good = entries(count)
        self.cursor = Cursor(0, 0)
        self.proved = 0
        self.held: list[bytes] = []
        self.position = chain.start(ME, EPOCH)
        self.envelopes: list = []
        self.receipts: list = []

    def publish(self, copies: int = 1) -> None:
        batch = self.good[self.cursor.published : self.cursor.published + self.rng.randint(1, 5)]
        if batch:
            self.envelopes += [replication.make_envelope(ME, EPOCH, self.cursor.published, batch, SIGNER)] * copies
            self.cursor = self.cursor.published_to(self.cursor.published + len(batch))

    def take(self, any_order: bool = True) -> None:
        if not self.envelopes:
            return
        envelope = self.envelopes.pop(self.rng.randrange(len(self.envelopes)) if any_order else 0)
        last = envelope.first + len(envelope.entries) - 1
        known = chain.link(self.held[last]) if last < len(self.held) else None
        intake = replication.receive(self.position, envelope, SIGNER.public_key, known)
        assert intake.outcome in (Outcome.NEW, Outcome.DUPLICATE, Outcome.GAP)
        assert list(intake.links) == [chain.link(entry) for entry in intake.entries]
        self.held += intake.entries
        self.position = intake.position
        self.receipts += [replication.make_receipt(self.position, 1.0, HUB)] * self.rng.randint(0, 2)

    def hear(self) -> None:
        if not self.receipts:
            return
        receipt = self.receipts.pop(self.rng.randrange(len(self.receipts)))
        replication.check_receipt(receipt, HUB.public_key, ME, EPOCH)
        if receipt.upto:
            assert receipt.head == chain.link(self.good[receipt.upto - 1])
        self.cursor = self.cursor.receipted_to(receipt.upto)
        assert self.cursor.receipted <= len(self.held), "only what the hub holds counts as held"
        self.proved = max(self.proved, self.cursor.receipted if self.rng.random() < 0.5 else 0)

    def lose(self) -> None:
        """The broker's storage is wiped, with all that was on its way."""
        self.envelopes.clear()
        self.receipts.clear()

    def kill_author(self) -> None:
        """What it knows after its start is what it had on disk."""
        self.cursor = Cursor(self.proved, self.proved)

    def restore_hub(self) -> None:
        """From a copy that is older: but never than what was proved, which is what the author has given up."""
        upto = self.rng.randint(self.proved, len(self.held)) if self.held else 0
        self.held = self.held[:upto]
        self.position = chain.follow(chain.start(ME, EPOCH), self.held)
        self.receipts.clear()
        self.cursor = self.cursor.asked_again(upto)


STEPS = {
    "publish": (Replication.publish, 8), "publish twice": (lambda r: r.publish(2), 2), "take": (Replication.take, 8),
    "hear": (Replication.hear, 5), "silence": (lambda r: setattr(r, "cursor", r.cursor.rewound()), 2), "lose": (Replication.lose, 1),
    "kill author": (Replication.kill_author, 1), "restore hub": (Replication.restore_hub, 1),
}  # fmt: skip


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_any_interleaving_of_drop_duplicate_reorder_and_crash_ends_in_equal_logs(count: int, seed: int) -> None:
    line = Replication(count, seed)
    names = random.Random(seed).choices(list(STEPS), [weight for _, weight in STEPS.values()], k=count * 6)
    for name in names:
        STEPS[name][0](line)
        assert line.held == line.good[: len(line.held)], name
    # Then the line is good, and what was not receipted is sent again after a silence.
    line.lose()
    line.cursor = line.cursor.rewound()
    for _ in range(3 * count + 3):
        line.publish()
        line.take(any_order=False)
        line.hear()
        if not line.envelopes and line.cursor.published == count:
            line.cursor = line.cursor.rewound()
    assert line.held == line.good


def test_a_gap_is_never_skipped_and_a_fork_is_never_taken() -> None:
    good = entries(6)
    at_three = chain.follow(chain.start(ME, EPOCH), good[:3])
    gap = replication.receive(at_three, replication.make_envelope(ME, EPOCH, 4, good[4:], SIGNER), SIGNER.public_key, None)
    assert gap.outcome is Outcome.GAP and "records 3 to 3" in gap.why and not gap.entries
    other = [chain.encode(builders.replaced(chain.decode(good[2]), fields={"n": "other"}))]
    again = replication.receive(
        at_three, replication.make_envelope(ME, EPOCH, 2, other, SIGNER), SIGNER.public_key, chain.link(good[2])
    )
    assert again.outcome is Outcome.FORK
    astray = chain.encode(builders.replaced(chain.decode(good[3]), previous=chain.link(other[0])))
    forked = replication.receive(at_three, replication.make_envelope(ME, EPOCH, 3, [astray], SIGNER), SIGNER.public_key, None)
    assert forked.outcome is Outcome.FORK and forked.position == at_three


def test_an_envelope_that_is_not_its_authors_own_is_refused() -> None:
    good = replication.make_envelope(ME, EPOCH, 0, entries(3), SIGNER)
    start = chain.start(ME, EPOCH)
    for bad in (
        builders.replaced(good, entries=()), builders.replaced(good, signature=bytes(64)), builders.replaced(good, first=1),
        builders.replaced(good, entries=(good.entries[0], good.entries[0], good.entries[2])),
    ):  # fmt: skip
        with pytest.raises(chain.Broken):
            replication.receive(start, bad, SIGNER.public_key, None)


def test_a_receipt_of_another_author_or_signer_is_refused() -> None:
    receipt = replication.make_receipt(chain.follow(chain.start(ME, EPOCH), entries(3)), 1.0, HUB)
    with pytest.raises(errors.Corrupt):
        replication.check_receipt(receipt, SIGNER.public_key, ME, EPOCH)
    with pytest.raises(errors.Corrupt):
        replication.check_receipt(receipt, HUB.public_key, AgentId("other"), EPOCH)
    with pytest.raises(errors.Corrupt):
        replication.check_receipt(builders.replaced(receipt, upto=2), HUB.public_key, ME, EPOCH)

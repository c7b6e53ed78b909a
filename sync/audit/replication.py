"""How records get from an author to the hub, as two pure state machines.

Invariants, each with a test of its words:
- under any loss, repetition and reordering of envelopes and receipts, the hub ends with each record once and in order;
- an author forgets a record only after a receipt that covers it and names the author's own hash;
- a gap is never skipped; a fork is never overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from sync.audit import chain
from sync.crypto import signing
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch
from sync.wire import codec, types
from sync.wire.messages import Content, Envelope, Receipt


@dataclass(frozen=True, slots=True)
class Cursor:
    """An author's view: records below `published` lie at the broker, those below `receipted` at the hub."""

    published: int
    receipted: int

    def published_to(self, upto: int) -> Cursor:
        return replace(self, published=max(self.published, upto))

    def receipted_to(self, upto: int) -> Cursor:
        return Cursor(max(self.published, upto), max(self.receipted, upto))

    def rewound(self) -> Cursor:
        """After a long silence: what was published and never receipted is sent again."""
        return replace(self, published=self.receipted)

    def asked_again(self, upto: int) -> Cursor:
        """The hub holds less than it did, and gets everything from there on once more."""
        return Cursor(upto, upto)


class Outcome(Enum):
    """What the hub makes of an envelope."""

    NEW = "new"
    DUPLICATE = "duplicate"
    GAP = "gap"
    FORK = "fork"


@dataclass(frozen=True, slots=True)
class Intake:
    """The outcome; for NEW the entries that the hub did not have, the hash of each, and its position with them."""

    outcome: Outcome
    entries: tuple[bytes, ...]
    position: chain.Position
    why: str
    links: Sequence[bytes] = ()


def make_envelope(
    author: AgentId, epoch: Epoch, first: int, entries: Sequence[bytes], signer: signing.Signer, contents: Sequence[Content] = ()
) -> Envelope:
    """An envelope of consecutive entries, signed over the hash of the last one; with what is retained of them."""
    head = chain.Position(author, epoch, first + len(entries), chain.link(entries[-1]))
    return Envelope(
        agent=author,
        epoch=epoch,
        first=first,
        entries=tuple(entries),
        signature=chain.sign_head(head, signer),
        contents=tuple(contents),
    )


def receive(position: chain.Position, envelope: Envelope, key: signing.PublicKey, known_head: bytes | None) -> Intake:
    """What to do with an envelope, at this position. Raises Broken where it is not the author's own, or does not chain.

    `known_head`: the hash that the hub holds of the envelope's last record, where it holds that record already.
    """
    if not envelope.entries:
        raise chain.Broken(f"An envelope of {envelope.agent} is empty.")
    end = envelope.first + len(envelope.entries)
    head = chain.Position(envelope.agent, envelope.epoch, end, chain.link(envelope.entries[-1]))
    chain.verify_head(head, key, envelope.signature)
    if envelope.first > position.next:
        why = f"records {position.next} to {envelope.first - 1} of {envelope.agent} are missing"
        return Intake(Outcome.GAP, (), position, why)
    if end <= position.next:
        if known_head is not None and known_head != head.head:
            return Intake(Outcome.FORK, envelope.entries, position, f"{envelope.agent} signed two records {end - 1}")
        return Intake(Outcome.DUPLICATE, (), position, "")
    fresh = envelope.entries[position.next - envelope.first :]
    if chain.decode(fresh[0]).previous != position.head:
        why = f"{envelope.agent} signed a record {position.next} that does not follow from the one that the hub holds"
        return Intake(Outcome.FORK, envelope.entries, position, why)
    links, after = chain.links(position, fresh)
    return Intake(Outcome.NEW, fresh, after, "", links)


def make_receipt(position: chain.Position, now: float, hub: signing.Signer) -> Receipt:
    """The hub's word that it holds everything up to this position."""
    receipt = Receipt(agent=position.author, epoch=position.epoch, upto=position.next, head=position.head, time=now, signature=b"")
    return types.replace(receipt, signature=hub.sign(signing.RECEIPT, _receipt_bytes(receipt)))


def check_receipt(receipt: Receipt, hub: signing.PublicKey, author: AgentId, epoch: Epoch) -> None:
    """Returns where the hub signed this receipt for this author and epoch. Raises Corrupt."""
    signing.verify(hub, signing.RECEIPT, _receipt_bytes(receipt), receipt.signature)
    if (receipt.agent, receipt.epoch) != (author, epoch):
        raise errors.Corrupt(f"A receipt for {receipt.agent}, epoch {receipt.epoch} came to {author}.")


def _receipt_bytes(receipt: Receipt) -> bytes:
    return codec.pack((receipt.agent, receipt.epoch, receipt.upto, receipt.head, receipt.time))

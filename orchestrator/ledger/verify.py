"""Whether the ledger is what was written and signed, with public keys alone and no running server.

Every author's chain is followed from record to record, every tenant's tree is grown again from its leaves, and every
checkpoint must be signed by the hub and fit the tree of its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.ledger import ingest
from orchestrator.ledger.segments import Segment, unpack
from sync.audit import chain, checkpoint, merkle
from sync.crypto import signing
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch, TenantId


@dataclass(frozen=True, slots=True)
class Row:
    """One leaf."""

    tenant: TenantId
    index: int
    author: AgentId
    epoch: Epoch
    sequence: int
    entry: bytes


@dataclass(slots=True)
class Report:
    """What was checked, and what is wrong; nothing wrong means intact."""

    records: int = 0
    authors: int = 0
    tenants: int = 0
    checkpoints: int = 0
    mistakes: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not self.mistakes


def verify(
    segments: Iterable[Segment],
    positions: dict[tuple[AgentId, Epoch], chain.Position],
    notes: Iterable[tuple[TenantId, str]],
    hub: signing.PublicKey,
) -> Report:
    """The report on a ledger. `segments` are in the order of tenant and leaf."""
    report = Report()
    rows = list(_rows(segments, report))
    _follow_chains(sorted(rows, key=lambda row: (row.author, row.epoch, row.sequence)), positions, report)
    trees = _grow_trees(rows, report)
    for tenant, note in notes:
        report.checkpoints += 1
        _check_note(tenant, note, trees.get(tenant, [merkle.EMPTY_ROOT]), hub, report)
    return report


def _rows(segments: Iterable[Segment], report: Report) -> Iterator[Row]:
    for segment in segments:
        try:
            pairs = unpack(segment.packed)
        except errors.Corrupt:
            report.mistakes.append(
                f"the records of {segment.author}, epoch {segment.epoch}, from record {segment.first_sequence} on are not readable."
            )
            continue
        for index, (sequence, entry) in enumerate(pairs, segment.first_leaf):
            yield Row(segment.tenant, index, segment.author, segment.epoch, sequence, entry)


def _follow_chains(rows: Iterable[Row], claimed: dict[tuple[AgentId, Epoch], chain.Position], report: Report) -> None:
    reached: dict[tuple[AgentId, Epoch], chain.Position] = {}
    broken: set[tuple[AgentId, Epoch]] = set()
    for row in rows:
        report.records += 1
        key = (row.author, row.epoch)
        if key in broken:
            continue
        position = reached.get(key) or chain.start(*key)
        try:
            reached[key] = chain.follow(position, (row.entry,))
            if chain.decode(row.entry).tenant != row.tenant:
                raise chain.Broken(f"record {row.sequence} of {row.author} stands in the tree of {row.tenant}, not its own.")
        except errors.Corrupt as error:
            broken.add(key)
            report.mistakes.append(str(error))
    report.authors = len(reached)
    for key, position in claimed.items():
        if key in broken or reached.get(key, chain.start(*key)) == position:
            continue
        last = reached[key].next - 1 if key in reached else -1
        report.mistakes.append(
            f"record {last} of {position.author}, epoch {position.epoch} was changed, or later ones removed: "
            f"the ledger has acknowledged {position.next} records of it."
        )


def _grow_trees(rows: Iterable[Row], report: Report) -> dict[TenantId, list[bytes]]:
    """For each tenant the root after each size."""
    roots: dict[TenantId, list[bytes]] = {}
    trees: dict[TenantId, merkle.Tree] = {}
    for row in rows:
        tree = trees.get(row.tenant, merkle.Tree())
        if row.index != tree.size:
            report.mistakes.append(f"leaf {tree.size} of {row.tenant} is missing: {row.index} stands in its place.")
        trees[row.tenant] = tree.append(chain.link(row.entry))
        roots.setdefault(row.tenant, [merkle.EMPTY_ROOT]).append(trees[row.tenant].root())
    report.tenants = len(trees)
    return roots


def _check_note(tenant: TenantId, note: str, roots: list[bytes], hub: signing.PublicKey, report: Report) -> None:
    try:
        signed = checkpoint.verify(note, ingest.SIGNER_NAME, hub)
    except checkpoint.BadCheckpoint as error:
        report.mistakes.append(f"{tenant}: {error}")
        return
    if signed.origin != ingest.origin(tenant):
        report.mistakes.append(f"{tenant}: a checkpoint is of another log, {signed.origin}.")
    elif signed.size >= len(roots):
        report.mistakes.append(f"{tenant}: a checkpoint covers {signed.size} leaves, and {len(roots) - 1} are there.")
    elif roots[signed.size] != signed.root:
        report.mistakes.append(f"{tenant}: the first {signed.size} leaves are not those that the checkpoint of that size signed.")

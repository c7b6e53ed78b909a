"""Whether the ledger is what was written and signed, with public keys alone and no running server.

One pass over the records, in the order of the leaves, with memory for the seams between segments only: every tenant's tree is
grown again and compared with its tiles and checkpoints, and every author's chain must join up at each seam.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.ledger.segments import Segment, unpack
from sync.audit import chain, checkpoint, proving, sealed
from sync.audit.tiles import Edge, Tile
from sync.crypto import signing
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch, TenantId

MOST_MISTAKES = 100
_Author = tuple[AgentId, Epoch]


@dataclass(slots=True)
class Report:
    """What was checked, and what is wrong; nothing wrong means intact. `expired`: records of which the hash alone is left."""

    records: int = 0
    expired: int = 0
    authors: int = 0
    tenants: int = 0
    checkpoints: int = 0
    mistakes: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not self.mistakes

    def wrong(self, sentence: str) -> None:
        if len(self.mistakes) < MOST_MISTAKES:
            self.mistakes.append(sentence)


@dataclass(frozen=True, slots=True)
class _Run:
    """Records of an author that follow each other in one segment. `previous` is None where the first one's bytes are gone."""

    first: int
    end: int
    previous: bytes | None
    last: bytes


class Verifier:
    """Takes tenants one after the other, and the segments of each in order; `finish` gives the report."""

    def __init__(self, hub: signing.PublicKey) -> None:
        self._hub = hub
        self._runs: dict[_Author, list[_Run]] = {}
        self._broken: set[_Author] = set()
        self.report = Report()

    def tenant(self, tenant: TenantId, notes: Iterable[str]) -> TreeCheck:
        """The check of one tenant's tree; `notes` are its checkpoints."""
        self.report.tenants += 1
        signed = []
        for note in notes:
            self.report.checkpoints += 1
            try:
                found = checkpoint.verify(note, proving.SIGNER_NAME, self._hub)
                proving.generation_of(found.origin, tenant)
                signed.append(found)
            except errors.Corrupt as error:
                self.report.wrong(f"{tenant}: {error}")
        return TreeCheck(self, tenant, signed)

    def follow(self, segment: Segment, items: list[tuple[int, bytes]]) -> None:
        """Checks the chain within a segment, and remembers its seams."""
        author = segment.author, segment.epoch
        start = 0
        for i in range(1, len(items) + 1):
            if i == len(items) or items[i][0] != items[i - 1][0] + 1:
                self._follow_run(author, items[start:i])
                start = i

    def finish(self, claimed: Iterable[chain.Position]) -> Report:
        """Joins the seams of each author, up to the positions that the ledger has acknowledged."""
        report = self.report
        report.authors = len(self._runs)
        for position in claimed:
            author = position.author, position.epoch
            reached = chain.start(*author)
            for run in sorted(self._runs.get(author, ()), key=lambda run: run.first):
                if author in self._broken:
                    break
                reached = self._join(reached, run)
            if author not in self._broken and reached != position:
                report.wrong(
                    f"record {reached.next - 1} of {position.author}, epoch {position.epoch} was changed, or later ones removed: "
                    f"the ledger has acknowledged {position.next} records of it."
                )
        return report

    def _follow_run(self, author: _Author, items: list[tuple[int, bytes]]) -> None:
        first, entries = items[0][0], [item for _, item in items]
        self.report.records += len(entries)
        self.report.expired += sum(len(entry) == sealed.LINK for entry in entries)
        if author in self._broken:
            return
        try:
            previous = None if len(entries[0]) == sealed.LINK else chain.decode(entries[0]).previous
            position = sealed.follow(chain.Position(*author, first, previous or chain.GENESIS), entries)
        except errors.Corrupt as error:
            self._broken.add(author)
            self._runs.setdefault(author, [])
            self.report.wrong(str(error))
            return
        self._runs.setdefault(author, []).append(_Run(first, position.next, previous, position.head))

    def _join(self, reached: chain.Position, run: _Run) -> chain.Position:
        author = reached.author, reached.epoch
        name = f"record {reached.next} of {reached.author}, epoch {reached.epoch}"
        if run.first != reached.next:
            self._broken.add(author)
            self.report.wrong(f"{name} is missing: number {run.first} stands in its place.")
        elif run.previous is not None and run.previous != reached.head:
            self._broken.add(author)
            self.report.wrong(f"{name} does not follow from the one before: one of the two was changed.")
        return chain.Position(*author, run.end, run.last)


class TreeCheck:
    """Grows one tenant's tree again."""

    def __init__(self, verifier: Verifier, tenant: TenantId, signed: list[checkpoint.Checkpoint]) -> None:
        self._verifier = verifier
        self._tenant = tenant
        self._left = sorted(signed, key=lambda note: note.size)
        self._edge = Edge()
        self._grown: dict[tuple[int, int], Tile] = {}

    def segment(self, segment: Segment) -> None:
        """The next segment."""
        report = self._verifier.report
        try:
            items = unpack(segment.packed)
        except errors.Corrupt:
            report.wrong(
                f"the records of {segment.author}, epoch {segment.epoch}, from record {segment.first_sequence} on are not readable."
            )
            return
        if segment.first_leaf != self._edge.size:
            report.wrong(f"leaf {self._edge.size} of {self._tenant} is missing: {segment.first_leaf} stands in its place.")
        if any(len(item) != sealed.LINK and not _is_of(item, self._tenant) for _, item in items):
            report.wrong(f"a record of {segment.author} stands in the tree of {self._tenant}, which is not its own.")
        self._verifier.follow(segment, items)
        self._extend([sealed.link_of(item) for _, item in items])

    def tile(self, tile: Tile) -> None:
        """A stored tile, which must be one that has grown."""
        grown = self._grown.pop((tile.level, tile.index), None)
        if grown != tile:
            self._verifier.report.wrong(f"tile {tile.level}/{tile.index} of {self._tenant} is not what its records come to.")

    def finish(self) -> None:
        report = self._verifier.report
        self._check_notes()
        for note in self._left:
            report.wrong(f"{self._tenant}: a checkpoint covers {note.size} leaves, and {self._edge.size} are there.")
        for level, index in self._grown:
            report.wrong(f"tile {level}/{index} of {self._tenant} is missing.")

    def _extend(self, links: list[bytes]) -> None:
        """Adds leaves, stopping at each size that a checkpoint has signed."""
        while self._left and self._left[0].size - self._edge.size <= len(links):
            count = max(0, self._left[0].size - self._edge.size)
            self._add(links[:count])
            links = links[count:]
            self._check_notes()
        self._add(links)

    def _add(self, links: list[bytes]) -> None:
        if links:
            self._edge, full = self._edge.extend(links)
            self._grown.update({(tile.level, tile.index): tile for tile in full})

    def _check_notes(self) -> None:
        while self._left and self._left[0].size <= self._edge.size:
            note = self._left.pop(0)
            if note.root != self._edge.root():
                self._verifier.report.wrong(
                    f"{self._tenant}: the first {note.size} leaves are not those that the checkpoint of that size signed."
                )


def _is_of(entry: bytes, tenant: TenantId) -> bool:
    try:
        return chain.tenant_of(entry) == tenant
    except errors.Corrupt:
        return True  # the chain says what is wrong with it

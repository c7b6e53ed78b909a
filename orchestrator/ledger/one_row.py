"""The records of a search as people count: one row a request. Pure.

Invariants, each with a test of its words:
- of one author's records of a request the outcome is shown, and each where there are several;
- what an author decided is shown where its outcome is not among the records;
- what an agent ran is shown where nothing of the request's admission is;
- a record that is about no request is always shown.
"""

from __future__ import annotations

from orchestrator.ledger.records import Record
from sync.audit import kinds
from sync.kit.ids import AgentId, TenantId

AHEAD_S = 600.0
"""How long after the last row's coming an outcome is looked for. A request ends within minutes, and its
records come together; without an end, one that has none would have the whole ledger read."""
_RANKS = {kinds.RUN: 0, kinds.TRIED: 1, kinds.DECIDED: 2, kinds.REQUEST: 3}
_RUN, _OUTCOME = _RANKS[kinds.RUN], _RANKS[kinds.REQUEST]
_Request = tuple[TenantId, str]


class EveryRow:
    """At most `limit` rows, each of one of the records that are added."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.rows: list[Record] = []

    @property
    def done(self) -> bool:
        """Whether there are as many rows as were asked for."""
        return len(self.rows) == self._limit

    def add(self, record: Record) -> None:
        """Take the next record."""
        self.rows.append(record)


class OneRow:
    """At most `limit` rows out of the records that are added, in the order of the ledger."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: list[Record] = []
        self._shown: dict[_Request, dict[AgentId, tuple[int, int]]] = {}
        """The rank and the row of what is shown of a request, by author."""
        self._without_outcome: set[int] = set()
        """Rows that a later record of the same request may change."""
        self._last: Record | None = None
        self.done = False
        """Whether no further record changes the rows."""

    @property
    def rows(self) -> list[Record]:
        """What is to be shown. A request stands where its first record stands."""
        return list(self._rows)

    def add(self, record: Record) -> None:
        """Take the next record into account."""
        entry = record.entry
        request = None if entry is None else entry.fields.get("request")
        rank = None if entry is None else _RANKS.get(entry.kind)
        if rank is None or not isinstance(request, str):
            self._append(record)
        elif not self._full or (record.tenant, request) in self._shown:
            self._add_of_request(record, self._shown.setdefault((record.tenant, request), {}), rank)
        self.done = self._full and self._settled(record)

    def _add_of_request(self, record: Record, shown: dict[AgentId, tuple[int, int]], rank: int) -> None:
        known = shown.get(record.author)
        if known is None and shown:
            if rank == _RUN:
                return
            # What another author ran gives way to the first that has admitted the request.
            runs = [author for author, (of, _) in shown.items() if of == _RUN]
            known = shown.pop(runs[0]) if runs else None
        if known is not None and known[0] < rank:
            row: int | None = known[1]
            self._rows[known[1]] = record
        elif known is None or known[0] == rank == _OUTCOME:
            row = self._append(record)
        else:
            return
        if row is not None:
            shown[record.author] = rank, row
            (self._without_outcome.discard if rank == _OUTCOME else self._without_outcome.add)(row)

    def _append(self, record: Record) -> int | None:
        if self._full:
            return None
        self._rows.append(record)
        self._last = record
        return len(self._rows) - 1

    @property
    def _full(self) -> bool:
        return len(self._rows) == self._limit

    def _settled(self, now: Record) -> bool:
        """Whether every row has its outcome, or has waited for it long enough."""
        if not self._without_outcome or self._last is None or now.tenant != self._last.tenant:
            return True
        return now.received_at > self._last.received_at + AHEAD_S

"""Which requests have a beginning in the journal and no end: in memory, and in a table. Does I/O.

Invariants, each with a test of its words:
- a request is begun once and ended once, however many callers try, and whichever is cancelled;
- where the record that should end it was not written, another may end it;
- the table is an index and no evidence: nothing signs it, and where it is wrong it is passed over.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sync.audit import chain
from sync.audit.sealed import Shelf
from sync.kit import crashpoints, errors, logs

log = logs.get("journal")
MAX_ID = 200
"""Characters of a request's id, which has 30 where it is ours. What SQLite cannot store in a row would
fail the records of others, so that it is looked at before."""


class Claim(NamedTuple):
    """The requests that a record begins and ends; "" is none."""

    begins: str
    ends: str
    goes_on: str = ""
    """The request that the record is the newest of: the one that its outcome is made from, should the process end."""


class OpenRequests:
    """The requests that are open. For the event loop's thread alone.

    They are kept there, and not in the table alone: what comes second has to be refused before it
    is queued, and the writer thread learns of the first one only when it takes its group. The table
    is written with the records, for the next life of the process.
    """

    def __init__(self, requests: Iterable[str] = ()) -> None:
        self._open = set(requests)
        """Each from the moment that the record which begins it is queued."""
        self._ending: set[str] = set()
        """Those of which the record that ends them is queued."""

    def __len__(self) -> int:
        """Return how many are open. Any thread may ask: it is a count of a moment."""
        return len(self._open)

    def __contains__(self, request: str) -> bool:
        """Return whether a request may be ended."""
        return request in self._open and request not in self._ending

    def claim(self, begins: str, ends: str, goes_on: str = "") -> Claim:
        """Note that a record is queued which begins and ends these requests; "" is none.

        Raise Refused, `already_recorded`, and note nothing, where either cannot be. Raise it too,
        `bad_request_id`, where what should begin has an id that is none.
        """
        if ends and ends not in self:
            raise errors.Refused(
                f"The outcome of request '{ends[:60]}' is recorded already, or the request was never begun: "
                "nothing was recorded a second time.",
                code="already_recorded",
            )
        if begins and (begins in self._open or begins in self._ending):
            raise errors.Refused(
                f"Request '{begins[:60]}' is at work already: give each request an id of its own.",
                code="already_recorded",
            )
        if len(begins) > MAX_ID or not begins.isascii():
            raise errors.Refused(
                f"A request's id has at most {MAX_ID} characters of ASCII: '{begins[:20]!r}' is none.",
                code="bad_request_id",
            )
        if ends:
            self._ending.add(ends)
        if begins:
            self._open.add(begins)
        return Claim(begins, ends, goes_on if goes_on in self else "")

    def settle(self, claim: Claim, *, written: bool) -> None:
        """Note whether the record for which this was claimed is on disk now."""
        if claim.begins and not written:
            # Its end may be queued behind it, and be written: until then it stays among the ending.
            self._open.discard(claim.begins)
        if claim.ends:
            self._ending.discard(claim.ends)
            if written:
                self._open.discard(claim.ends)


def note(database: sqlite3.Connection, claims: Sequence[tuple[Claim, int]]) -> None:
    """Put the requests that were begun, with the numbers of the records, into the table; then take
    those that were ended out of it. The caller holds the transaction with the records."""
    newest = [(claim.begins or claim.goes_on, number) for claim, number in claims if claim.begins or claim.goes_on]
    begun = [value for row in dict(newest).items() for value in row]
    ended = [claim.ends for claim, _ in claims if claim.ends]
    # One statement for all of a group, as for its entries. A row of the same name is a leftover of
    # a wrong index, and gives way: to fail on it would be to fail the records of others.
    if begun:
        places = ", ".join(["(?, ?)"] * (len(begun) // 2))
        database.execute(f"insert or replace into unfinished values {places}", begun)
        crashpoints.reach("journal.opened")
    if ended:
        places = ", ".join("?" * len(ended))
        database.execute(f"delete from unfinished where request in ({places})", ended)
        crashpoints.reach("journal.closed")


def load(database: sqlite3.Connection, shelf: Shelf, first: int) -> dict[str, chain.Entry]:
    """Return by request the records that began what a former life of the process did not end.

    The oldest come first. `first`: the first record that the database has; the older ones are looked
    for on the shelf. Rows whose record is gone, or is of another request, are taken out of the table.
    """
    query = "select request, sequence from unfinished order by sequence"
    table: list[tuple[str, int]] = list(database.execute(query))
    found = {request: _record(database, shelf, first, request, number) for request, number in table}
    gone = [request for request, entry in found.items() if entry is None]
    # A full disk does not keep a journal from opening: then they are passed over at each start.
    with contextlib.suppress(sqlite3.OperationalError), database:
        rows = [(request,) for request in gone]
        database.executemany("delete from unfinished where request = ?", rows)
    return {request: entry for request, entry in found.items() if entry is not None}


def _record(
    database: sqlite3.Connection, shelf: Shelf, first: int, request: str, number: int
) -> chain.Entry | None:  # fmt: skip
    if not isinstance(number, int):  # SQLite keeps what was put into a column, whatever its type
        return None
    try:
        if number < first:
            some = shelf.read(number, 1)
        else:
            one = "select entry from entries where sequence = ?"
            some = [row[0] for row in database.execute(one, (number,))]
        entry = chain.decode(some[0]) if some else None
    except errors.Corrupt as error:
        log.error("unfinished_unreadable", sequence=number, detail=str(error)[:200])
        return None
    return entry if entry is not None and entry.fields.get("request", request) == request else None

"""The requests that a former life of the process did not end: each gets its outcome. Does I/O.

Invariants, each with a test of its words:
- after it each request that was begun has one outcome, however often it is killed on the way.
"""

from __future__ import annotations

import asyncio

from sync.audit import chain, kinds
from sync.audit.journal import GROUP, Journal
from sync.kit import logs

log = logs.get("journal")


async def close_unfinished(journal: Journal) -> int:
    """Append the outcome of each request that a former life of the process left open; return how many.

    Call it when the journal is open, before requests are taken. The outcome is `interrupted`, and has
    the fields of the record that began the request. Raise AuditUnavailable where one cannot be
    written: the next call tries what is left.
    """
    left = [entry for entry in journal.unfinished() if isinstance(entry.fields.get("request"), str)]
    for first in range(0, len(left), GROUP):
        # As many as one commit takes: one by one, a thousand of them would wait for a thousand syncs.
        await asyncio.gather(*(_close(journal, entry) for entry in left[first : first + GROUP]))
    if left:
        log.warning("requests_interrupted", requests=len(left))
    return len(left)


async def _close(journal: Journal, entry: chain.Entry) -> None:
    fields = {**entry.fields, "outcome": kinds.INTERRUPTED, "code": kinds.INTERRUPTED}
    await journal.append(entry.tenant, kinds.REQUEST, fields, closes=str(entry.fields["request"]))

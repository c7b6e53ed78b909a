"""Destroys what is retained here of records, where the hub has ordered it, and says so under this agent's signature."""

from __future__ import annotations

from edge_agent.work.cache import AnswerCache
from sync.audit import erasure
from sync.audit.journal import PLATFORM, Journal
from sync.crypto import signing
from sync.kit import crashpoints, logs
from sync.kit.ids import AgentId
from sync.wire.messages import Erase, Erased

log = logs.get("eraser")
KIND = "erased"


class Eraser:
    """The one that erases."""

    def __init__(
        self, journal: Journal, cache: AnswerCache, me: AgentId, signer: signing.Signer, hub: signing.PublicKey
    ) -> None:  # fmt: skip
        self._journal = journal
        self._cache = cache
        self._me = me
        self._signer = signer
        self._hub = hub

    async def erase(self, order: Erase) -> Erased:
        """Destroys, then confirms. A repeated order is carried out again: it changes nothing more. Raises Corrupt."""
        erasure.check_order(order, self._me, self._hub)
        if order.epoch == self._journal.epoch:
            await self._journal.erase(order.sequences)
        # A cached answer is not tied to the record it was first given for: all of them go.
        await self._cache.clear()
        crashpoints.reach("erase.done")
        fields: dict[str, object] = {"erasure": order.erasure, "records": len(order.sequences)}
        await self._journal.append(PLATFORM, KIND, fields)
        log.info("contents_erased", erasure=order.erasure, records=len(order.sequences))
        return erasure.done(order.erasure, self._me, self._signer)

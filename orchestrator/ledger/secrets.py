"""The keys to what tenants retain: one pair a tenant, and one to look subjects up by. Derived from the hub's own."""

from __future__ import annotations

from sync.audit import contents
from sync.audit.journal import Retained
from sync.crypto import digest, sealing
from sync.kit import errors, logs
from sync.kit.ids import TenantId
from sync.wire.messages import Content

log = logs.get("secrets")


class Secrets:
    """All tenants' keys. `at_rest` is the hub's 32-byte secret."""

    def __init__(self, at_rest: bytes) -> None:
        self._at_rest = at_rest
        self._openers: dict[TenantId, sealing.Opener] = {}

    def public(self, tenant: TenantId) -> sealing.SealingKey:
        """What hub and sites seal the tenant's contents to."""
        return self._opener(tenant).public_key

    def subject_digest(self, tenant: TenantId, subject: str) -> bytes:
        """What finds a subject again, and tells nothing of it to who lacks the hub's key."""
        key = sealing.derive(self._at_rest, f"subject/{tenant}")
        return digest.keyed(key, "subject", subject[: contents.MAX_SUBJECT].encode())

    def subject_of(self, tenant: TenantId, content: Content) -> bytes:
        """The digest of whom contents are about; empty where nobody is named, or they cannot be opened."""
        try:
            about = contents.subject(self._opener(tenant), tenant, content.key)
        except errors.Corrupt as error:
            log.error("content_key_unreadable", tenant=tenant, code=error.code)
            return b""
        return self.subject_digest(tenant, about) if about else b""

    def open(self, tenant: TenantId, sealed: bytes, key: bytes) -> contents.Opened:
        """The contents. Raises Corrupt."""
        return contents.open_(self._opener(tenant), tenant, Retained(sealed, key))

    def _opener(self, tenant: TenantId) -> sealing.Opener:
        known = self._openers.get(tenant)
        if known is None:
            known = self._openers[tenant] = sealing.Opener(sealing.derive(self._at_rest, f"content/{tenant}"))
        return known

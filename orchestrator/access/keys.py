"""Making a key. Only its digest is kept; the key itself is shown once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from sync.bundle.snapshot import Key
from sync.kit import errors, ids
from sync.kit.ids import KeyId, PrincipalId, TenantId
from sync.policy import api_key
from sync.policy.authorize import ADMIN

ROLES = ("user", ADMIN)
NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key: `text` is for its owner's eyes, once; `record` is what is kept."""

    text: str
    record: Key


class KeyStore(Protocol):
    """Where keys are kept, as digests. All raise StoreUnavailable."""

    async def add(self, key: Key, *, at: float) -> None: ...

    async def revoke(self, key: KeyId, *, at: float) -> bool:
        """Whether there was such a key to take back."""
        ...

    async def keys(self) -> list[Key]:
        """The keys that are not revoked."""
        ...


def issue(tenant: str, name: str, role: str, *, expires: float = NEVER) -> Issued:
    """A new key for a principal. Raises Misconfigured where the name or the role is none."""
    if role not in ROLES:
        raise errors.Misconfigured(f"The role '{role}' does not exist: use {' or '.join(ROLES)}.", code="bad_role")
    if not ids.is_name(name):
        raise errors.Misconfigured(
            f"'{name}' cannot name a principal: use lower-case letters, digits, '-' and '_'.", code="bad_name"
        )
    text = api_key.mint()
    parsed = api_key.parse(text)
    assert parsed is not None  # noqa: S101 - what was minted parses, by its own test
    return Issued(
        text,
        Key(
            id=parsed.id, digest=parsed.digest, tenant=TenantId(tenant), principal=PrincipalId(name), roles=(role,), expires=expires
        ),
    )

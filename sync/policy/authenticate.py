"""Who asks: from the key that came to the principal that it stands for.

A missing, malformed, unknown, wrong and expired key get the same refusal, and an unknown id costs the same comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

from sync.bundle.snapshot import Snapshot, Tenant
from sync.crypto import digest
from sync.kit import errors
from sync.kit.ids import KeyId, PrincipalId
from sync.policy import api_key

_NOBODY = bytes(digest.SIZE)


class InvalidKey(errors.Refused):
    """No principal has this key."""

    code = "invalid_api_key"


@dataclass(frozen=True, slots=True)
class Principal:
    """A user or a service acting for a tenant."""

    id: PrincipalId
    key: KeyId
    tenant: Tenant
    roles: tuple[str, ...]
    expires: float


REMEMBERED = 10_000


def authenticate(snapshot: Snapshot, text: str, now: float) -> Principal:
    """The principal of this key. Raises InvalidKey.

    Keys that were right once are remembered for the bundle by their digest, which tells nothing of the key.
    """
    whole = digest.of(api_key.PURPOSE, text.encode("utf-8", "replace"))
    known = snapshot.principals.get(whole)
    if isinstance(known, Principal) and known.expires > now:
        return known
    principal = _authenticate(snapshot, text, now)
    if len(snapshot.principals) < REMEMBERED:
        snapshot.principals[whole] = principal
    return principal


def _authenticate(snapshot: Snapshot, text: str, now: float) -> Principal:
    parsed = api_key.parse(text)
    if parsed is None:
        raise InvalidKey("The API key is missing or malformed: send it as 'Authorization: Bearer rf_live_…'.")
    key = snapshot.keys.get(parsed.id)
    same = digest.equal(key.digest if key else _NOBODY, parsed.digest)
    if key is None or not same or key.expires <= now or (tenant := snapshot.tenants.get(key.tenant)) is None:
        raise InvalidKey("The API key is unknown, revoked or expired: ask your administrator for another.")
    return Principal(key.principal, key.id, tenant, key.roles, key.expires)

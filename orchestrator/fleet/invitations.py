"""Invitations: what a token on one pasted line stands for.

Invariants, each with a test of its words:
- the hub keeps no token, only a keyed digest of its secret;
- a token is used once, and not after its time;
- who shows a used token again with other keys has it from somewhere: that is an alarm, and locks the agent that came by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sync.bundle.snapshot import Agent
from sync.crypto import digest
from sync.kit import errors
from sync.kit.ids import AgentId, Region, SiteId, TenantId
from sync.wire.invitation import Token
from sync.wire.levels import Zone

TTL_S = 3600.0
MAX_TTL_S = 30 * 86_400.0


class TokenRefused(errors.Refused):
    """The token is unknown, over, or was used before."""

    code = "token_refused"


@dataclass(frozen=True, slots=True)
class Invitation:
    """A token's record. `used_by`: the signing key of the agent that came by it, or empty. Times are seconds since 1970."""

    id: str
    digest: bytes
    name: AgentId
    site: SiteId
    zone: Zone
    region: Region
    tenants: tuple[TenantId, ...]
    expires: float
    used_by: bytes = b""


def keyed(pepper: bytes, token: Token) -> bytes:
    """What is kept of a token's secret: HMAC-SHA256 under the hub's own key."""
    return digest.keyed(pepper, "invitation", f"{token.id}.{token.secret}".encode())


def check(found: Invitation | None, token: Token, pepper: bytes, now: float) -> Invitation:
    """The invitation that this token stands for, used or not. Raises TokenRefused."""
    # Where there is none, the comparison is made all the same: the time tells nothing.
    right = digest.equal(keyed(pepper, token), found.digest if found else bytes(digest.SIZE))
    if found is None or not right:
        raise TokenRefused("The hub knows no such invitation: ask for a new one ('ringfence agents invite').")
    if found.expires <= now:
        raise TokenRefused(
            f"The invitation of '{found.name}' has expired: ask for a new one ('ringfence agents invite').", code="token_expired"
        )
    return found


def agent_of(invitation: Invitation, signing_key: bytes, sealing_key: bytes) -> Agent:
    """The record of the agent that came by an invitation."""
    return Agent(
        id=invitation.name,
        site=invitation.site,
        zone=invitation.zone,
        signing_key=signing_key,
        sealing_key=sealing_key,
        tenants=invitation.tenants,
    )

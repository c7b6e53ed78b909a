"""Every id of the house as a type of its own, and how a new one is made."""

from __future__ import annotations

import re
import secrets
import time
from typing import NewType

RequestId = NewType("RequestId", str)
DecisionId = NewType("DecisionId", str)
TenantId = NewType("TenantId", str)
PrincipalId = NewType("PrincipalId", str)
KeyId = NewType("KeyId", str)
AgentId = NewType("AgentId", str)
SiteId = NewType("SiteId", str)
Region = NewType("Region", str)
ModelName = NewType("ModelName", str)
SessionId = NewType("SessionId", str)
Epoch = NewType("Epoch", str)

NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
"""A name that people give to tenants, sites and agents: it is also a token of a NATS subject, so no dots."""


def is_name(text: str) -> bool:
    """Whether the text may name a tenant, a site or an agent."""
    return NAME.fullmatch(text) is not None


def sortable() -> str:
    """Return 26 hex digits that sort by time of making: 48 bits of milliseconds, then 56 random ones that nobody can guess."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(7)}"


REQUEST = re.compile(r"req_[0-9a-f]{26}")
"""The form of a request's id: what another process calls one is held against it."""


def request_id() -> RequestId:
    return RequestId(f"req_{sortable()}")


def decision_id() -> DecisionId:
    return DecisionId(f"dec_{sortable()}")


def session_id() -> SessionId:
    return SessionId(secrets.token_hex(8))


def epoch() -> Epoch:
    return Epoch(secrets.token_hex(8))

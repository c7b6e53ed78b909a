"""The statuses of the errors that only the hub knows."""

from __future__ import annotations

from orchestrator.dispatch.conversation import AgentFailed, AgentLost, DeadlinePassed
from orchestrator.dispatch.limits import LimitReached
from orchestrator.dispatch.pipeline import PolicyDenied
from sync.api.errors import Responses

RESPONSES = Responses(
    ((PolicyDenied, 403), (LimitReached, 429), (AgentLost, 502), (DeadlinePassed, 504)),
    by_code={AgentFailed: 502},
)

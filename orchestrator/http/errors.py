"""The statuses of the errors that only the hub knows."""

from __future__ import annotations

from orchestrator.dispatch.conversation import AgentFailed, AgentLost, DeadlinePassed
from sync.serving.api.errors import Responses

RESPONSES = Responses(
    ((AgentLost, 502), (DeadlinePassed, 504)),
    by_code={AgentFailed: 502},
)

"""The statuses of the errors that only a site knows."""

from __future__ import annotations

from edge_agent.inference.repository.lifecycle import NoSuchModel
from edge_agent.site.visit import RunFailed
from sync.policy.admit import TicketRefused
from sync.serving.api.errors import Responses

RESPONSES = Responses(((NoSuchModel, 404), (TicketRefused, 403)), by_code={RunFailed: 502})

"""The statuses of the errors that only a site knows."""

from __future__ import annotations

from edge_agent.inference.repository.lifecycle import NoSuchModel
from edge_agent.visit import RunFailed
from sync.api.errors import Responses
from sync.bundle.admit import TicketRefused

RESPONSES = Responses(((NoSuchModel, 404), (TicketRefused, 403)), by_code={RunFailed: 502})

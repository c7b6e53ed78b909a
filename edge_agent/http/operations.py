"""What operators look at: whether the agent lives, whether it can serve, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from edge_agent.inference.repository.lifecycle import Repository
from edge_agent.line.link import Link
from edge_agent.site.executor import SiteExecutor
from edge_agent.work.guard import Guard
from sync.audit.journal import Journal
from sync.kit import metrics
from sync.kit.metrics import Registry


@dataclass(frozen=True, slots=True)
class Operations:
    """The handlers."""

    site: SiteExecutor
    guard: Guard
    link: Link
    repository: Repository
    journal: Journal
    registry: Registry

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz/live", self.live),
            web.get("/healthz/ready", self.ready),
            web.get("/metrics", self.metrics),
        ]

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def ready(self, request: web.Request) -> web.Response:
        """Ready with a bundle that some tenant's grace time still covers, and room for records; the line to the hub is told."""
        state = self._readiness()
        told = {
            "status": state,
            "mode": self.site.mode,
            "since": _moment(self.link.since),
            "hub_heard_s": round(self.guard.age_s(), 1),
            "bundle_serial": self.guard.current.serial,
            "models": self.repository.names,
        }
        return web.json_response(told, status=200 if state.startswith(("online", "offline", "rejoining")) else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.registry.exposition(), headers={"content-type": metrics.CONTENT_TYPE})

    def _readiness(self) -> str:
        """online, offline since …, rejoining, or why nothing is served: stale, no bundle yet, journal full."""
        if not self.guard.current.serial:
            return "no bundle yet"
        if self.journal.full:
            return "journal full"
        mode = self.site.mode
        return f"offline since {_moment(self.link.since)}" if mode == "offline" else mode


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")

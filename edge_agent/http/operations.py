"""What operators look at: whether the agent lives, whether it can serve, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from edge_agent.site.site import Site
from sync.kit import metrics
from sync.kit.metrics import Registry


@dataclass(frozen=True, slots=True)
class Operations:
    """The handlers."""

    site: Site
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
        site = self.site
        state = readiness(site)
        told = {
            "status": state, "mode": site.mode, "since": _moment(site.link.since), "hub_heard_s": round(site.guard.age_s(), 1),
            "bundle_serial": site.guard.current.serial, "models": site.repository.names,
        }  # fmt: skip
        return web.json_response(told, status=200 if state.startswith(("online", "offline", "rejoining")) else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.registry.exposition(), headers={"content-type": metrics.CONTENT_TYPE})


def readiness(site: Site) -> str:
    """online, offline since …, rejoining, or why nothing is served: stale, no bundle yet, journal full."""
    if not site.guard.current.serial:
        return "no bundle yet"
    if site.journal_full:
        return "journal full"
    mode = site.mode
    return f"offline since {_moment(site.link.since)}" if mode == "offline" else mode


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")

"""What operators look at: whether the agent lives, whether it can serve, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from edge_agent.site import Site
from sync.kit import metrics
from sync.kit.metrics import Registry


@dataclass(frozen=True, slots=True)
class Operations:
    """The handlers. `linked` says whether the line to the hub is up."""

    site: Site
    registry: Registry
    linked: Callable[[], bool]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz/live", self.live),
            web.get("/healthz/ready", self.ready),
            web.get("/metrics", self.metrics),
        ]

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def ready(self, request: web.Request) -> web.Response:
        """Ready with a bundle; the line to the hub is told, and is not needed."""
        ready = self.site.guard.current.serial > 0
        told = {"status": "ready" if ready else "no bundle yet", "online": self.linked(), "models": self.site.repository.names}
        return web.json_response(told, status=200 if ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.registry.exposition(), headers={"content-type": metrics.CONTENT_TYPE})

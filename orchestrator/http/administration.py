"""The endpoints for administrators, and those that watch the hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from orchestrator.fleet.presence import Presence
from sync.audit.journal import Journal
from sync.bundle.snapshot import Snapshot
from sync.bus.port import Bus
from sync.kit import metrics
from sync.kit.clock import Clock
from sync.policy import authorize
from sync.policy.authenticate import Principal
from sync.serving.api import bodies, errors, headers


@dataclass(frozen=True, slots=True)
class Administration:
    """The handlers. `apply` checks, keeps and publishes a configuration, and gives its serial."""

    authenticate: Callable[[str], Principal]
    snapshot: Callable[[], Snapshot]
    presence: Presence
    bus: Bus
    journal: Journal
    clock: Clock
    registry: metrics.Registry
    apply: Callable[[str, str], Awaitable[int]]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/v1/admin/configuration", self.configuration),
            web.get("/v1/admin/agents", self.agents),
            web.get("/healthz/live", self.live),
            web.get("/healthz/ready", self.ready),
            web.get("/metrics", self.metrics),
        ]

    async def configuration(self, request: web.Request) -> web.Response:
        """Applies a YAML document."""
        principal = self.authenticate(headers.api_key(request))
        authorize.administration(principal)
        if (request.content_length or 0) > bodies.MAX_BODY:
            raise errors.TooLarge(f"The document is over {bodies.MAX_BODY} bytes.")
        try:
            text = (await request.read()).decode()
        except UnicodeDecodeError as error:
            raise errors.BadRequest("The document is not UTF-8.") from error
        serial = await self.apply(text, principal.id)
        return web.json_response({"serial": serial})

    async def agents(self, request: web.Request) -> web.Response:
        """Every admitted agent: where it is, whether it gets work and why not, what waits in its journal."""
        authorize.administration(self.authenticate(headers.api_key(request)))
        snapshot, now = self.snapshot(), self.clock.monotonic()
        left_out = self.presence.left_out(now, snapshot)
        rows = []
        for agent in snapshot.agents.values():
            seen = self.presence.seen(agent.id)
            beat = seen.beat if seen else None
            rows.append(
                {
                    "id": agent.id, "zone": agent.zone, "site": agent.site, "region": snapshot.region_of(agent),
                    "up": agent.id not in left_out, "left_out": left_out[agent.id].why if agent.id in left_out else "",
                    "models": beat.models if beat else (), "running": beat.running if beat else 0,
                    "bundle_serial": beat.bundle_serial if beat else 0,
                    "journal_lag": beat.journal_next - beat.journal_receipted if beat else None,
                }
            )  # fmt: skip
        return web.json_response({"agents": rows})

    async def live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def ready(self, _: web.Request) -> web.Response:
        """200 where requests can be decided and dispatched."""
        snapshot = self.snapshot()
        states = {"bundle": snapshot.serial > 0, "broker": self.bus.connected}
        up = len(self.presence.here(self.clock.monotonic(), snapshot))
        ready = all(states.values())
        body = {"status": "ready" if ready else "not ready", **states, "bundle_serial": snapshot.serial, "agents_up": up}
        return web.json_response(body, status=200 if ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.registry.exposition(), headers={"content-type": metrics.CONTENT_TYPE})

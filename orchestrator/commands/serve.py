"""ringfence serve."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator import app, settings
from orchestrator.commands.session import State
from sync.kit import logs, process


def serve(
    state: State = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on; 0 takes a free one.", show_default=False)] = None,
    nats_url: Annotated[
        str | None, typer.Option(help="A NATS server to use; without, the hub starts its own.", show_default=False)
    ] = None,
    nats_host: Annotated[str | None, typer.Option(help="Where the hub's own nats-server listens.", show_default=False)] = None,
    nats_port: Annotated[int | None, typer.Option(help="Its port; 0 takes a free one.", show_default=False)] = None,
    enrol_port: Annotated[
        int | None, typer.Option(help="Where agents show their invitations, by HTTPS; 0 takes a free one.", show_default=False)
    ] = None,
    region: Annotated[str | None, typer.Option(help="Where this hub is.", show_default=False)] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default=False)] = None,
) -> None:
    """Runs the hub until Ctrl-C or SIGTERM."""
    chosen = settings.read(
        state=state, http_host=host, http_port=port, nats_url=nats_url, nats_host=nats_host, nats_port=nats_port,
        enrol_port=enrol_port, region=region, log_level=log_level,
    )  # fmt: skip
    logs.configure(level=chosen.log_level)

    async def start() -> app.Hub:
        hub = app.Hub(chosen)
        await hub.start()
        return hub

    raise typer.Exit(process.run(start))

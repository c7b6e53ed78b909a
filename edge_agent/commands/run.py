"""ringfence-agent run."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_agent import settings
from edge_agent.agent import Agent
from edge_agent.commands.session import Models, State
from sync.kit import logs, process


def run(
    state: State = None,
    models: Models = None,
    threads: Annotated[int | None, typer.Option(help="Threads that one model may use.", show_default=False)] = None,
    broker_url: Annotated[
        str | None, typer.Option(help="Where the broker is, if not where the admission says.", show_default=False)
    ] = None,
    http_host: Annotated[str | None, typer.Option(help="The address of the site's own API.", show_default=False)] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Its port; 0 takes a free one. Without, there is no API at the site.", show_default=False)
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default=False)] = None,
) -> None:
    """Runs the agent until Ctrl-C or SIGTERM."""
    chosen = settings.read(
        state=state,
        models=models,
        threads=threads,
        broker_url=broker_url,
        log_level=log_level,
        http_host=http_host,
        http_port=http_port,
    )
    logs.configure(level=chosen.log_level)

    async def start() -> Agent:
        agent = Agent(chosen)
        await agent.start()
        return agent

    raise typer.Exit(process.run(start))

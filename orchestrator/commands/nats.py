"""ringfence nats: the configuration of a broker that the hub does not start itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import settings
from orchestrator.authority.certificates import Certificates
from orchestrator.broker import follower
from orchestrator.broker import process as broker_process
from orchestrator.commands.session import State, out, with_database
from orchestrator.fleet.admission import Admitted
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents
from sync.crypto import keyring
from sync.kit import clock as clocks
from sync.kit import files, logs, process

cli = typer.Typer(help="A NATS server of your own, instead of the one that the hub starts.", no_args_is_help=True)


@cli.command()
def config(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; its certificate goes into the folder tls beside it.")
    ],
    name: Annotated[
        list[str], typer.Option(help="A host by which the hub and agents know this server. More than one may be given.")
    ],
    store: Annotated[Path, typer.Option(help="The folder for JetStream, on a disk that syncs.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "0.0.0.0",  # noqa: S104 - agents come from elsewhere
    port: Annotated[int, typer.Option(help="The port for the hub and its agents.", min=1, max=65535)] = 4222,
    leaf_port: Annotated[
        int | None, typer.Option(help="Where leaf nodes of sites connect.", min=1, max=65535, show_default=False)
    ] = None,
    follow: Annotated[
        str,
        typer.Option(
            help="Stay, write it again within a second after each change of the fleet and in time for its certificate, and run this "
            "command each time, as 'systemctl reload nats-server'."
        ),
    ] = "",
    state: State = None,
) -> None:
    """Writes nats-server's configuration: the hub, a user an agent with its own subjects alone, JetStream that syncs each write.

    Without --follow: write it again after each change of the agents, and each fortnight for its certificate, and send the server SIGHUP.
    """
    chosen = settings.read(state=state)
    reload = follower.command(follow) if follow else []
    agents = with_database(state, lambda database: SqlAgents(database).agents())
    keys = keyring.load_or_create(chosen.keyring)
    made = Certificates(output.parent / "tls", chosen.authority, keys.at_rest, [*chosen.hosts, *name], clocks.SystemClock())
    at = broker_process.Reachable(host, port, made.server.absolute(), made.trusted.absolute(), leaf_port)

    def write(agents: Sequence[Admitted]) -> None:
        files.write_atomically(output, broker_process.configuration(at, store, agents).encode(), mode=files.PRIVATE)

    write(agents)
    out.print(f"{output} is for {len(agents)} agents, its certificate in {made.server}.", soft_wrap=True, highlight=False)
    out.print(f"Start it with: nats-server -c {output}", soft_wrap=True, highlight=False)
    if reload:
        logs.configure(level=chosen.log_level)

        async def start() -> follower.Follower:
            one = follower.Follower(Database(chosen.database), made, write, reload)
            await one.start()
            return one

        raise typer.Exit(process.run(start))

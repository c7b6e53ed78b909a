"""ringfence nats: the configuration of a broker that the hub does not start itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator import broker, settings
from orchestrator.console import State, out, with_database
from orchestrator.store.administration import SqlAgents
from sync.kit import errors, files

cli = typer.Typer(help="A NATS server of your own, instead of the one that the hub starts.", no_args_is_help=True)


@cli.command()
def config(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; it holds passwords.")],
    store: Annotated[Path, typer.Option(help="The folder for JetStream, on a disk that syncs.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "0.0.0.0",  # noqa: S104 - agents come from elsewhere
    port: Annotated[int, typer.Option(help="The port for the hub and its agents.", min=1, max=65535)] = 4222,
    certificate: Annotated[Path | None, typer.Option(help="Its certificate, in PEM: TLS 1.3 then.", show_default=False)] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's private key.", show_default=False)] = None,
    leaf_port: Annotated[
        int | None, typer.Option(help="Where leaf nodes of sites connect.", min=1, max=65535, show_default=False)
    ] = None,
    state: State = None,
) -> None:
    """Writes nats-server's configuration: the hub, a user an agent with its own subjects alone, JetStream that syncs each write.

    Write it again after each 'agents admit' or 'remove', and send the server SIGHUP.
    """
    chosen = settings.read(state=state)
    password = chosen.nats_password.get_secret_value()
    if not password:
        raise errors.Misconfigured(
            "RINGFENCE_NATS_PASSWORD is not set: choose the password by which the hub logs in, and start the hub with it too.",
            code="no_password",
        )
    if bool(certificate) != bool(key):
        raise errors.Misconfigured("--certificate and --key go together.", code="bad_option")
    agents = with_database(state, lambda database: SqlAgents(database).agents())
    at = broker.Reachable(host, port, certificate, key, None, leaf_port)
    text = broker.configuration(at, store, password, agents)
    files.write_atomically(output, text.encode(), mode=files.PRIVATE)
    out.print(f"{output} is for {len(agents)} agents. Start it with: nats-server -c {output}", soft_wrap=True, highlight=False)

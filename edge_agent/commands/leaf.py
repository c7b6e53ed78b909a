"""ringfence-agent leaf-config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent import settings
from edge_agent.commands.session import State, out
from edge_agent.identity import identity
from edge_agent.line import leaf
from sync.kit import files


def leaf_config(
    hub: Annotated[str, typer.Option(help="Where the hub's broker takes leaf nodes: tls://HOST:7422.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write; it holds a password: /etc/ringfence/leaf.conf for the package."),
    ],
    port: Annotated[int, typer.Option(help="Where the leaf listens, on this machine alone.", min=1, max=65535)] = 4222,
    state: State = None,
) -> None:
    """Writes the configuration of a nats-server of the site's own, which holds the line to the hub for its agents."""
    chosen = settings.read(state=state)
    text = leaf.configuration(leaf.Leaf(hub, port), identity.load(chosen.state, chosen.keyring))
    files.write_atomically(output, text.encode(), mode=files.PRIVATE)
    out.print(
        f"Start it with: nats-server -c {output}; then the agent with --broker-url nats://{leaf.LOOPBACK}:{port}",
        soft_wrap=True,
        highlight=False,
    )

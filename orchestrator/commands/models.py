"""ringfence models: what the hub hands out to its agents."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator import settings
from orchestrator.authority import certificates
from orchestrator.distribution import packages as distribution
from orchestrator.settings import Settings
from sync.bus.nats import Login, NatsBus
from sync.crypto import keyring
from sync.kit import errors

cli = typer.Typer(help="The models that this hub signs and hands out.", no_args_is_help=True)
out = Console()
State = Annotated[Path | None, typer.Option("--state", help="The hub's folder.", show_default=False)]
Folder = Annotated[
    Path, typer.Argument(help="A version's folder with its manifest.json, as 'ringfence-agent models add' makes it.")
]


@cli.command()
def publish(folder: Folder, state: State = None) -> None:
    """Signs a model and puts it into the store: agents take it with 'ringfence-agent models add rf:NAME'. Needs the running hub."""
    chosen = settings.read(state=state)
    keys = keyring.load_or_create(chosen.keyring)
    whom = login(chosen)

    async def put() -> str:
        bus = NatsBus(whom, f"publish-{os.getpid()}")
        await bus.connect()
        try:
            with progress() as told:
                package = await distribution.publish(bus, folder, keys.signer, told)
        finally:
            await bus.close()
        return f"{package.name}, version {package.version}"

    out.print(f"Published: {asyncio.run(put())}. At an agent: ringfence-agent models add rf:{folder.parent.name}")


@cli.command()
def sign(folder: Folder, state: State = None) -> None:
    """Signs a model where it lies, to be carried to agents by hand. Needs no running hub."""
    distribution.sign(folder, keyring.load_or_create(settings.read(state=state).keyring).signer)
    out.print(f"Signed: {folder / distribution.SIGNATURE}")


@cli.command("export")
def export_(
    folder: Folder, to: Annotated[Path, typer.Option("--to", "-o", help="The .tar file to write.")], state: State = None
) -> None:
    """Signs a model and writes it to one file, for a site without a line: 'ringfence-agent models import' takes it."""
    distribution.sign(folder, keyring.load(settings.read(state=state).keyring).signer)
    distribution.write_tar(folder, to)
    out.print(f"{folder} is in {to}. At the site: ringfence-agent models import {to.name}")


def login(chosen: Settings) -> Login:
    """As whom the hub itself logs in at its broker. Raises Misconfigured where it does not run."""
    try:
        url = json.loads(chosen.address.read_text())["here"]
    except (OSError, ValueError, KeyError) as error:
        raise errors.Misconfigured(
            f"The hub of {chosen.state} does not run: start it with 'ringfence serve'.", code="not_running"
        ) from error
    return certificates.login(chosen.certificates, url)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for bytes; nothing where nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, whole: progress.update(task, description=what, completed=done, total=whole or None)

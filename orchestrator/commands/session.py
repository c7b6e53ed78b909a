"""What the command lines of the hub share: its folder, its database, and the way to people."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from orchestrator import settings
from orchestrator.store.database import Database
from sync.crypto import archive
from sync.kit import errors, files
from sync.terminal import commands

T = TypeVar("T")
State = Annotated[Path | None, typer.Option("--state", help="The hub's folder.", show_default=False)]
Passphrase = Annotated[
    Path | None, typer.Option("--passphrase-file", help="A file with the passphrase in its first line.", show_default=False)
]
Service = Annotated[
    str, typer.Option("--key-command", help="A key service instead: COMMAND wrap and COMMAND unwrap, bytes in hex on both sides.")
]
out = Console()
err = Console(stderr=True)
WIDEST = 1000
"""Columns of a table, at most."""


def with_database(state: Path | None, work: Callable[[Database], Coroutine[None, None, T]], *, make: bool = False) -> T:
    """What the work gives, on the hub's database: which a running hub may have open too. `make`: where there is none, makes it."""
    chosen = settings.read(state=state)
    if not make and not chosen.database.exists():
        raise errors.Misconfigured(f"There is no hub in {chosen.state}: name its folder with --state.", code="no_hub")

    async def on_database() -> T:
        files.make_private_folder(chosen.state)
        database = Database(chosen.database)
        try:
            await database.open()
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(on_database())


def show(table: Table) -> None:
    """Prints a table as wide as it is: ids that are cut at a terminal's edge, or in a pipe, are of no use."""
    needed = out.measure(table, options=out.options.update(width=WIDEST)).maximum
    Console(width=max(out.width, needed)).print(table)


def progress() -> Progress:
    """A bar on standard error for long work; nothing where nobody looks."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=err,
        transient=True, disable=not err.is_terminal,
    )  # fmt: skip


def wrapper(passphrase_file: Path | None, key_command: str) -> archive.Wrapper:
    """What keeps a key. Raises Misconfigured unless one of both is named."""
    if bool(passphrase_file) == bool(key_command):
        raise errors.Misconfigured("Name either --passphrase-file or --key-command.", code="bad_option")
    if passphrase_file is None:
        return archive.KeyService(shlex.split(key_command))
    text = commands.read_file(passphrase_file).decode("utf-8", "replace").split("\n", 1)[0].strip()
    return archive.Passphrase(text)

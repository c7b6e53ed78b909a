"""ringfence backup | restore, and what goes out and comes in on a stick."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import backup as backups
from orchestrator import settings
from orchestrator.commands import models as model_commands
from orchestrator.commands import session
from orchestrator.commands.session import Passphrase, Service, State, err, out, progress, with_database
from orchestrator.distribution.publisher import signed_bundle
from orchestrator.ledger.checkpoints import Checkpoints
from orchestrator.ledger.ingest import Ledger
from orchestrator.ledger.secrets import Secrets
from orchestrator.records import airgap
from orchestrator.settings import Settings
from orchestrator.store.administration import SqlConfiguration, SqlKeys
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents
from orchestrator.store.ledger import SqlLedger
from sync.bus.nats import NatsBus
from sync.crypto import keyring
from sync.crypto.signing import PublicKey
from sync.kit import clock as clocks
from sync.kit import errors, faults
from sync.kit.ids import SiteId
from sync.kit.metrics import Registry
from sync.wire import parcels

bundle_cli = typer.Typer(help="Bundles for sites without a line.", no_args_is_help=True)
ledger_cli = typer.Typer(help="Journals of sites without a line.", no_args_is_help=True)
CHECKPOINT_LATE_S = 2 * 3600.0


def backup(
    to: Annotated[Path, typer.Option("--to", "-o", help="The archive to write.")],
    passphrase_file: Passphrase = None,
    key_command: Service = "",
    state: State = None,
) -> None:
    """Writes the whole hub into one encrypted archive, while it runs or not: database, ledger, journal, keys, published models."""
    chosen = settings.read(state=state)
    wrapper = session.wrapper(passphrase_file, key_command)
    models = asyncio.run(_models(chosen))
    with _told() as told:
        kept = backups.backup(chosen, to, wrapper, models, told)
    out.print(f"The backup is {to}: {', '.join(kept.names)}; {kept.bytes >> 20} MiB before compression.")


def restore(
    source: Annotated[Path, typer.Argument(help="The archive.")],
    passphrase_file: Passphrase = None,
    key_command: Service = "",
    state: State = None,
) -> None:
    """Puts a backup in place, in a folder that is empty or not there. Agents then bring again what came after the backup."""
    chosen = settings.read(state=state)
    if not source.is_file():
        raise errors.Misconfigured(f"There is no archive {source}.", code="file_unreadable")
    began = time.monotonic()
    with _told() as told:
        kept = backups.restore(source, chosen.state, session.wrapper(passphrase_file, key_command), told)
    out.print(
        f"{chosen.state} is restored ({kept.bytes >> 20} MiB in {time.monotonic() - began:.0f} s). Start it with "
        "'ringfence serve', then look with 'ringfence audit verify' and 'ringfence doctor'."
    )


@bundle_cli.command("export")
def bundle_export(
    site: Annotated[str, typer.Option(help="The site that it is for.")],
    to: Annotated[Path, typer.Option("--to", "-o", help="The file to write.")],
    state: State = None,
) -> None:
    """Writes a site's signed bundle to a file: 'ringfence-agent bundle import' takes it."""
    keys = keyring.load(settings.read(state=state).keyring)
    secrets = Secrets(keys.at_rest)

    async def make(database: Database) -> bytes:
        return await signed_bundle(
            SqlConfiguration(database), SqlKeys(database), SqlAgents(database), SiteId(site), keys, secrets.public, time.time()
        )  # fmt: skip

    parcels.write(to, [with_database(state, make)])
    out.print(f"The bundle of '{site}' is in {to}. At the site: ringfence-agent bundle import {to.name}")


@ledger_cli.command("import")
def ledger_import(
    source: Annotated[Path, typer.Argument(help="The folder, or one file, that 'ringfence-agent journal export' wrote.")],
    state: State = None,
) -> None:
    """Takes journals from a stick into the ledger, and writes beside them what goes back to their agents. The hub may run."""
    chosen = settings.read(state=state)
    keys, paths = keyring.load(chosen.keyring), airgap.journals_in(source)

    async def take(database: Database) -> list[airgap.Imported]:
        store, clock = SqlLedger(database), clocks.SystemClock()
        noted = faults.Faults(chosen.state / "faults.json", Registry(), clock)
        ledger = Ledger(store, keys.signer, clock, noted, Secrets(keys.at_rest).subject_of)
        checkpoints = Checkpoints(store, keys.signer, clock, noted, chosen.ledger_mark)
        await checkpoints.open()
        agents = {
            admitted.agent.id: PublicKey(admitted.agent.signing_key) for admitted in await SqlAgents(database).agents()
        }  # fmt: skip
        with progress() as bar:
            task = bar.add_task("importing", total=None)
            return await airgap.import_journals(
                paths, ledger, checkpoints, agents, lambda name: bar.update(task, description=name)
            )  # fmt: skip

    for one in with_database(state, take):
        out.print(f"{one.agent}: {one.records} records came, and the ledger holds {one.held} of its journal.")
    folder = source if source.is_dir() else source.parent
    out.print(f"Take {folder} back to the site: ringfence-agent journal import {folder.name}")


async def _models(chosen: Settings) -> list[bytes]:
    """What the broker has of published models, where it runs."""
    try:
        login = model_commands.login(chosen)
    except errors.Misconfigured:
        err.print("The hub does not run: models that were published are not in the backup.")
        return []
    bus = NatsBus(login, f"backup-{os.getpid()}")
    await bus.connect()
    try:
        return [frame async for frame in backups.published_models(bus)]
    finally:
        await bus.close()


@contextmanager
def _told() -> Iterator[Callable[[str, int, int], None]]:
    with progress() as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, whole: bar.update(task, description=what, completed=done, total=whole or None)

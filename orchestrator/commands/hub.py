"""ringfence hub: a new hub, and how it is."""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import settings
from orchestrator.access import keys as access
from orchestrator.authority import authority as authorities
from orchestrator.broker import process as broker_process
from orchestrator.commands import diagnosis, session
from orchestrator.commands.session import Passphrase, Service, State, out
from orchestrator.settings import Settings
from orchestrator.store.administration import SqlConfiguration, SqlKeys
from orchestrator.store.database import Database
from orchestrator.tenants import document
from sync.crypto import archive, keyring
from sync.kit import errors, files
from sync.terminal import checkup, commands
from sync.wire import enrolment

cli = typer.Typer(help="This hub: how it begins, and how it is.", no_args_is_help=True)
STARTER = """\
# Where this hub begins: one site, one tenant, no model yet. docs/api.md and docs/models.md have the rest. After a change: ringfence apply -f FILE
version: 1
models: {}
sites:
  main: {region: eu-central-1, jurisdiction: eu}
tenants:
  - id: main
    name: Main
    allowed_models: []
"""


@cli.command()
def init(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="The configuration to begin with; a small one without.", show_default=False)
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose the first admin key is; the first tenant's without.")] = "",
    passphrase_file: Passphrase = None,
    key_command: Service = "",
    state: State = None,
) -> None:
    """Makes a new hub: keys, certificate authority, database, and the first admin key, which is shown once.

    With --passphrase-file or --key-command, the key of the authority's root is kept by that, and this hub cannot use it by itself.
    """
    chosen = settings.read(state=state)
    if chosen.keyring.exists() or chosen.database.exists():
        raise errors.Misconfigured(f"There is a hub in {chosen.state} already: nothing was changed.", code="hub_exists")
    wrapper = session.wrapper(passphrase_file, key_command) if passphrase_file or key_command else None
    text = commands.read_file(file).decode("utf-8", "replace") if file else STARTER
    parsed = document.parse(text, str(file) if file else "the starting configuration")
    names = [known.id for known in parsed.tenants]
    owner = tenant or (names[0] if names else "")
    if owner not in names:
        raise errors.Misconfigured(
            f"There is no tenant '{tenant}' in it: there are {', '.join(names) or 'none'}.", code="no_tenant"
        )
    if not chosen.nats_url:
        broker_process.executable()
    key = _make(chosen, text, owner, wrapper)
    say = functools.partial(out.print, soft_wrap=True, highlight=False)
    found = authorities.load(chosen.authority, keyring.load(chosen.keyring).at_rest)
    say(f"A new hub is in {chosen.state}: keys, authority, database.")
    say(f"The fingerprint of its root is [bold]{enrolment.shown(found.pin)}[/]; the root's key is kept by: {found.wrapper}.")
    say(f"Its broker: {chosen.nats_url or 'its own, started with it'}; agents know it as {chosen.known_as}.")
    say(f"The first admin key, of '{owner}', shown only now:\n\n  {key}\n")
    say("Start it with 'systemctl start ringfence-hub', or 'ringfence serve'. Then: ringfence agents invite --site … --zone …")
    say(f"Back it up: 'ringfence backup --to FILE --passphrase-file FILE'. Without {chosen.keyring} nothing of it is of use.")


@cli.command()
def doctor(state: State = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Looks the hub over: disk, keys, authority, broker, ledger, journal, faults. Each line says what to do. Exit code 1 where one fails."""
    chosen = settings.read(state=state)
    if not chosen.state.exists():
        raise errors.Misconfigured(f"There is no hub in {chosen.state}: name its folder with --state.", code="no_hub")
    raise typer.Exit(checkup.show([*checkup.disk(chosen.state), *diagnosis.lines(chosen)], as_json=as_json))


def _make(chosen: Settings, text: str, owner: str, wrapper: archive.Wrapper | None) -> str:
    """Everything that a hub begins with; the admin key. What was made goes again where one of it cannot be made."""
    fresh = not chosen.state.exists()
    try:
        files.make_private_folder(chosen.state)
        keys = keyring.load_or_create(chosen.keyring)
        authorities.create(chosen.authority, keys.at_rest, time.time(), wrapper)
        issued = access.issue(owner, "first-admin", "admin", expires=math.inf)

        async def keep(database: Database) -> None:
            await SqlConfiguration(database).apply(text, at=time.time(), by="hub init")
            await SqlKeys(database).add(issued.record, at=time.time())

        session.with_database(chosen.state, keep, make=True)
    except BaseException:
        for path in (*chosen.state.glob(f"{chosen.database.name}*"), chosen.authority, chosen.keyring):
            path.unlink(missing_ok=True)
        if fresh and chosen.state.exists() and not any(chosen.state.iterdir()):
            chosen.state.rmdir()
        raise
    return issued.text

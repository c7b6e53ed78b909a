"""ringfence keys: the API keys of apps and people."""

from __future__ import annotations

import datetime
import sys
import time
from typing import Annotated

import typer
from rich.table import Table

from orchestrator.access import keys as access
from orchestrator.commands.session import State, out, show, with_database
from orchestrator.store.administration import SqlConfiguration, SqlKeys
from orchestrator.store.database import Database
from orchestrator.tenants import document
from sync.kit import errors
from sync.kit.ids import KeyId

cli = typer.Typer(help="API keys.", no_args_is_help=True)
DAY_S = 86_400


@cli.command("create")
def create(
    tenant: Annotated[str, typer.Option(help="Whose key it is.")],
    name: Annotated[str, typer.Option(help="The app or person that will use it.")],
    role: Annotated[str, typer.Option(help="user or admin.")] = "user",
    days: Annotated[int, typer.Option(help="Days until it expires; 0 for never.")] = 0,
    state: State = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the key alone.")] = False,
) -> None:
    """Makes an API key, and shows it once."""
    issued = access.issue(tenant, name, role, expires=time.time() + days * DAY_S if days else access.NEVER)

    async def keep(database: Database) -> None:
        text = await SqlConfiguration(database).document()
        tenants = [t.id for t in document.parse(text, "the applied configuration").tenants] if text else []
        if tenant not in tenants:
            raise errors.Misconfigured(
                f"There is no tenant '{tenant}': there are {', '.join(tenants) or 'none'}.", code="no_tenant"
            )
        await SqlKeys(database).add(issued.record, at=time.time())

    with_database(state, keep)
    if quiet:
        sys.stdout.write(f"{issued.text}\n")
    else:
        out.print(f"The key of '{name}' ({role}) for '{tenant}', shown only now:\n\n  {issued.text}\n", soft_wrap=True)


@cli.command("list")
def list_keys(state: State = None) -> None:
    """The keys that are in force. The keys themselves are not kept."""
    table = Table("id", "tenant", "principal", "roles", "expires")
    for key in with_database(state, lambda db: SqlKeys(db).keys()):
        expires = "never" if key.expires == access.NEVER else datetime.datetime.fromtimestamp(key.expires, datetime.UTC).isoformat()
        table.add_row(key.id, key.tenant, key.principal, ", ".join(key.roles), expires)
    show(table)


@cli.command("revoke")
def revoke(key: Annotated[str, typer.Argument(help="The key's id: ten characters after rf_live_.")], state: State = None) -> None:
    """Takes a key back."""
    if not with_database(state, lambda db: SqlKeys(db).revoke(KeyId(key), at=time.time())):
        raise errors.Misconfigured(f"There is no key '{key}' in force: 'ringfence keys list' shows them.", code="no_key")
    out.print(f"The key {key} is revoked.")

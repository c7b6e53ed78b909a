"""ringfence: the hub and its administration."""

from __future__ import annotations

import datetime
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from classifiers import cli as classify_cli
from classifiers import profiles
from classifiers.engine import load
from orchestrator import app, audit_cli, ca_cli, fleet_cli, hub_cli, models_cli, nats_cli, recovery_cli, rollout_cli, settings
from orchestrator.access import keys as access
from orchestrator.console import State, out, show, with_database
from orchestrator.store.administration import SqlConfiguration, SqlKeys
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents
from orchestrator.tenants import compiler, document
from sync.bundle import decide
from sync.bundle.snapshot import Snapshot
from sync.kit import commands, errors, logs, process
from sync.kit.ids import KeyId, ModelName, TenantId
from sync.wire.levels import Level

cli = typer.Typer(
    name="ringfence", help="Decides where each prompt may be processed, and has it processed there.",
    no_args_is_help=True, add_completion=False,
)  # fmt: skip
keys_cli = typer.Typer(help="API keys.", no_args_is_help=True)
cli.command(name="classify")(classify_cli.classify)
cli.add_typer(keys_cli, name="keys")
cli.add_typer(hub_cli.cli, name="hub")
cli.command()(hub_cli.doctor)
rollout_cli.add_to(fleet_cli.cli)
cli.add_typer(fleet_cli.cli, name="agents")
cli.add_typer(ca_cli.cli, name="ca")
cli.add_typer(audit_cli.cli, name="audit")
cli.add_typer(models_cli.cli, name="models")
cli.add_typer(nats_cli.cli, name="nats")
recovery_cli.add_to(cli)

DAY_S = 86_400
APPLY_TIMEOUT_S = 30


@cli.command()
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


@cli.command()
def apply(
    file: Annotated[Path, typer.Option("--file", "-f", help="The YAML file with models, sites and tenants.")],
    state: State = None,
    url: Annotated[str, typer.Option(envvar="RINGFENCE_URL", help="A running hub to apply it to, instead of its folder.")] = "",
    key: Annotated[str, typer.Option(envvar="RINGFENCE_ADMIN_KEY", help="An admin key, with --url.")] = "",
) -> None:
    """Checks a configuration, and makes it the one in force: within two seconds at every site that is on line."""
    text = commands.read_file(file).decode("utf-8", "replace")
    parsed = document.parse(text, str(file))
    if url and key:
        serial = _apply_over_http(url, key, text)
    else:
        serial = with_database(state, lambda db: SqlConfiguration(db).apply(text, at=time.time(), by="command line"), make=True)
    out.print(
        f"Applied {file}: {len(parsed.tenants)} tenants, {len(parsed.models)} models, {len(parsed.sites)} sites; serial {serial}."
    )


@cli.command()
def explain(
    tenant: Annotated[str, typer.Option(help="The tenant that would ask.")],
    text: Annotated[str, typer.Argument(help="The prompt; '-' reads standard input.")],
    model: Annotated[str, typer.Option(help="The model that would be asked for.")] = "",
    level: Annotated[str, typer.Option(help="A level that the app would declare; it can only raise.")] = "public",
    state: State = None,
) -> None:
    """What would happen with a prompt, and why. Runs nothing and needs no running hub."""
    snapshot = with_database(state, _snapshot)
    found = snapshot.tenants.get(TenantId(tenant))
    if found is None:
        raise errors.Misconfigured(
            f"There is no tenant '{tenant}': there are {', '.join(snapshot.tenants) or 'none'}.", code="no_tenant"
        )
    wanted = snapshot.models.get(ModelName(model))
    if model and (wanted is None or wanted.name not in found.allowed_models):
        raise errors.Misconfigured(
            f"'{tenant}' may not use a model '{model}': it may use {', '.join(found.allowed_models)}.", code="no_model"
        )
    try:
        declared = Level.of(level)
    except ValueError as error:
        raise errors.Misconfigured(f"--level: {error}.", code="bad_level") from error
    assessment = load().assess([sys.stdin.read() if text == "-" else text], profiles.of(snapshot, found), all_spans=True)
    facts = decide.Facts(max(assessment.level, declared), frozenset(assessment.categories))
    decision = decide.decide(snapshot, found, facts, wanted)
    out.print(f"[bold]{'allowed' if decision.allowed else 'refused'}[/] as [bold]{decision.level.label}[/]")
    for name, count in assessment.counts().items():
        out.print(f"  found {count} × {name}")
    out.print(
        f"  zones: {', '.join(decision.zones) or 'none'}; regions: {', '.join(decision.regions) or 'none'}; cache: {decision.cache}"
    )
    for reason in decision.reasons:
        out.print(f"  {reason.rule}: {reason.why}")


@keys_cli.command("create")
def keys_create(
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


@keys_cli.command("list")
def keys_list(state: State = None) -> None:
    """The keys that are in force. The keys themselves are not kept."""
    table = Table("id", "tenant", "principal", "roles", "expires")
    for key in with_database(state, lambda db: SqlKeys(db).keys()):
        expires = "never" if key.expires == access.NEVER else datetime.datetime.fromtimestamp(key.expires, datetime.UTC).isoformat()
        table.add_row(key.id, key.tenant, key.principal, ", ".join(key.roles), expires)
    show(table)


@keys_cli.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="The key's id: ten characters after rf_live_.")], state: State = None
) -> None:
    """Takes a key back."""
    if not with_database(state, lambda db: SqlKeys(db).revoke(KeyId(key), at=time.time())):
        raise errors.Misconfigured(f"There is no key '{key}' in force: 'ringfence keys list' shows them.", code="no_key")
    out.print(f"The key {key} is revoked.")


async def _snapshot(database: Database) -> Snapshot:
    """What decisions are made from, as it stands in the database now."""
    text = await SqlConfiguration(database).document()
    if text is None:
        raise errors.Misconfigured("There is no configuration yet: begin with 'ringfence apply -f FILE'.", code="no_configuration")
    bundle = compiler.compile_bundle(
        document.parse(text, "the applied configuration"), serial=await SqlConfiguration(database).serial(), issued=time.time(),
        keys=await SqlKeys(database).keys(), agents=[a.agent for a in await SqlAgents(database).agents()],
        content_key=lambda _: b"", hub_key=b"",
    )  # fmt: skip
    return Snapshot(bundle)


def _apply_over_http(url: str, key: str, text: str) -> int:
    if not url.startswith(("http://", "https://")):
        raise errors.Misconfigured(f"'{url}' is no address of a hub: it begins with http:// or https://.", code="bad_url")
    request = urllib.request.Request(  # noqa: S310 - checked above
        f"{url}/v1/admin/configuration", data=text.encode(), method="PUT", headers={"authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=APPLY_TIMEOUT_S) as response:  # noqa: S310
            return int(json.load(response)["serial"])
    except urllib.error.HTTPError as error:
        told = json.load(error)["error"]["message"]
        raise errors.Misconfigured(f"The hub refused it: {told}", code="refused") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise errors.Misconfigured(f"The hub at {url} does not answer: is it running?", code="hub_unreachable") from error


def main() -> None:
    """The console script."""
    commands.main(cli)

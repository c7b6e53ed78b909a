"""ringfence apply | explain: the configuration in force, and what it does with a prompt."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.commands.session import State, out, with_database
from orchestrator.store.administration import SqlConfiguration, SqlKeys
from orchestrator.store.database import Database
from orchestrator.store.fleet import SqlAgents
from orchestrator.tenants import compiler, document
from sync.bundle.snapshot import Snapshot
from sync.kit import errors
from sync.kit.ids import KeyId, ModelName, PrincipalId, TenantId
from sync.policy import decide
from sync.policy.authenticate import Principal
from sync.terminal import commands
from sync.wire.levels import Level

APPLY_TIMEOUT_S = 30


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


def explain(
    tenant: Annotated[str, typer.Option(help="The tenant that would ask.")],
    text: Annotated[str, typer.Argument(help="The prompt; '-' reads standard input.")],
    model: Annotated[str, typer.Option(help="The model that would be asked for.")] = "",
    level: Annotated[str, typer.Option(help="A level that the app would declare; it can only raise.")] = "public",
    role: Annotated[
        list[str] | None, typer.Option(help="A role of the key that would ask, as rules look at it. Default: user.")
    ] = None,
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
    # Imported here: a quarter of a second that 'apply' does not need.
    from classifiers import engine, profiles  # noqa: PLC0415
    from sync.serving import stages  # noqa: PLC0415

    assessment = engine.load().assess([sys.stdin.read() if text == "-" else text], profiles.of(snapshot, found), all_spans=True)
    asker = Principal(PrincipalId(""), KeyId(""), found, tuple(role or ["user"]), float("inf"))
    facts = stages.facts(asker, assessment, max(assessment.level, declared))
    decision = decide.decide(snapshot, found, facts, wanted)
    out.print(f"[bold]{'allowed' if decision.allowed else 'refused'}[/] as [bold]{decision.level.label}[/]")
    for name, count in assessment.counts().items():
        out.print(f"  found {count} × {name}")
    out.print(
        f"  zones: {', '.join(decision.zones) or 'none'}; regions: {', '.join(decision.regions) or 'none'}; cache: {decision.cache}"
    )
    for reason in decision.reasons:
        out.print(f"  {reason.rule}: {reason.why}")


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

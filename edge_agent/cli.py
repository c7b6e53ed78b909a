"""ringfence-agent: everything that a site's administrator does."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_agent import agent as agents
from edge_agent import (
    airgap,
    config_cli,
    diagnosis,
    enrol_cli,
    host_diagnosis,
    identity,
    leaf,
    line_diagnosis,
    models_cli,
    rebuild,
    service_cli,
    settings,
    support_bundle,
    telling,
    upgrade_cli,
)
from sync.audit import rows
from sync.kit import checkup, commands, errors, files, logs, process
from sync.kit import clock as clocks

cli = typer.Typer(
    name="ringfence-agent", help="Runs the models of one site, and keeps its journal.", no_args_is_help=True, add_completion=False
)
bundle_cli = typer.Typer(help="The bundle that this agent decides by.", no_args_is_help=True)
journal_cli = typer.Typer(help="This agent's audit journal.", no_args_is_help=True)
cli.add_typer(models_cli.cli, name="models")
cli.add_typer(journal_cli, name="journal")
cli.add_typer(bundle_cli, name="bundle")
cli.add_typer(config_cli.cli, name="config")
cli.command()(enrol_cli.enrol)
cli.command()(upgrade_cli.upgrade)
service_cli.add_to(cli)
cli.command()(rebuild.rebuild)
cli.command()(support_bundle.support_bundle)
out = Console()

State = Annotated[
    Path | None, typer.Option("--state", help="The folder of the agent's keys, journal and cache.", show_default=False)
]
Models = Annotated[Path | None, typer.Option("--models", help="The folder of models.", show_default=False)]
MOMENTS = ("at", "since", "certificate_expires", "bundle_issued")


@cli.command()
def run(
    state: State = None,
    models: Models = None,
    threads: Annotated[int | None, typer.Option(help="Threads that one model may use.", show_default=False)] = None,
    broker_url: Annotated[
        str | None, typer.Option(help="Where the broker is, if not where the admission says.", show_default=False)
    ] = None,
    http_host: Annotated[str | None, typer.Option(help="The address of the site's own API.", show_default=False)] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Its port; 0 takes a free one. Without, there is no API at the site.", show_default=False)
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default=False)] = None,
) -> None:
    """Runs the agent until Ctrl-C or SIGTERM."""
    chosen = settings.read(
        state=state,
        models=models,
        threads=threads,
        broker_url=broker_url,
        log_level=log_level,
        http_host=http_host,
        http_port=http_port,
    )
    logs.configure(level=chosen.log_level)

    async def start() -> agents.Agent:
        agent = agents.Agent(chosen)
        await agent.start()
        return agent

    raise typer.Exit(process.run(start))


@cli.command()
def status(state: State = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """How the running agent is: linked or not, its bundle, its models, what waits. Exit code 1 where it does not run."""
    path = settings.read(state=state).state / telling.FILE
    if not path.exists():
        raise errors.Misconfigured(f"No agent has run with {path.parent}: start it with 'ringfence-agent run'.", code="not_running")
    told = json.loads(path.read_text())
    told["runs"] = bool(telling.read(path.parent))
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        models, mistakes = told.pop("repository", []), told.pop("mistakes", [])
        table = Table(show_header=False, box=None)
        for name, value in told.items():
            table.add_row(name.replace("_", " "), _for_people(name, value))
        out.print(table)
        out.print(_models_table(models))
        for mistake in mistakes:
            out.print(f"[red]{mistake}[/]", highlight=False)
    raise typer.Exit(0 if told["runs"] else 1)


def _for_people(name: str, value: object) -> str:
    """A value of the status; moments as their distance from now."""
    if name in MOMENTS and isinstance(value, int | float):
        distance = value - time.time()
        hours = f"{abs(distance) / 3600:.1f} h"
        return f"in {hours}" if distance > 0 else f"{hours} ago" if value else "never"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _models_table(models: list[dict[str, object]]) -> Table:
    """Each model, whether it is loaded, and on what it runs."""
    columns = ("name", "version", "task", "state", "running", "mib", "kv_mib", "providers", "standing", "why")
    table = Table(*(column.replace("_", " ") for column in columns))
    for model in models:
        told = [model.get(column, "") for column in columns]
        table.add_row(*(", ".join(map(str, value)) if isinstance(value, list) else str(value) for value in told))
    return table


@cli.command()
def doctor(state: State = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Looks this agent over: disk, bundle, journal, certificate, the line, models, engine, service, faults. Each line says what to do.

    Exit code 1 where one fails.
    """
    logs.configure(level="error")
    chosen = settings.read(state=state)
    me = identity.load(chosen.state, chosen.keyring)
    lines = [*checkup.disk(chosen.state), *diagnosis.lines(chosen, me), *line_diagnosis.lines(chosen, me)]
    raise typer.Exit(checkup.show([*lines, *host_diagnosis.lines(chosen, me)], as_json=as_json))


@cli.command("leaf-config")
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


@bundle_cli.command("import")
def bundle_import(
    file: Annotated[Path, typer.Argument(help="The file that 'ringfence bundle export' wrote.")], state: State = None
) -> None:
    """Takes a bundle that came on a stick: in force within seconds, or when the agent starts."""
    _take_in(file, state)


@journal_cli.command("import")
def journal_import(
    source: Annotated[Path, typer.Argument(help="The folder, or one file, that 'ringfence ledger import' wrote to.")],
    state: State = None,
) -> None:
    """Takes the hub's receipts and proofs that came on a stick: what they show may then leave this disk."""
    _take_in(source, state, "answer-*.parcel")


@journal_cli.command("export")
def journal_export(to: Annotated[Path, typer.Option("--to", "-o", help="A folder, as on a stick.")], state: State = None) -> None:
    """Writes what the hub has not proved to hold to files, signed as on the wire. The agent may run; nothing here is given up."""
    chosen = settings.read(state=state)
    columns = (TextColumn("exporting"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        written = airgap.export(
            chosen.journal, identity.load(chosen.state, chosen.keyring), to, clocks.SystemClock(),
            lambda done, whole: bar.update(task, completed=done, total=whole),
        )  # fmt: skip
    out.print(f"{len(written)} files are in {to}. At the hub: ringfence ledger import {to.name}; then bring the folder back.")


def _take_in(source: Path, state: Path | None, pattern: str = "*.parcel") -> None:
    chosen = settings.read(state=state)
    for sentence in airgap.take_in(source, pattern, chosen.state, identity.load(chosen.state, chosen.keyring)):
        out.print(sentence, highlight=False)
    out.print("Taken in: a running agent takes it up within seconds, another at its start.")


@journal_cli.command("verify")
def journal_verify(state: State = None) -> None:
    """Whether the journal is what this agent wrote and signed. Needs no running agent."""
    chosen = settings.read(state=state)
    me = identity.load(chosen.state, chosen.keyring)
    key = me.keys.signer.public_key
    if not chosen.journal.exists():
        raise errors.Misconfigured(f"There is no journal in {chosen.state}: the agent has not run yet.", code="no_journal")
    position = rows.verify(chosen.journal, me.id, key)
    out.print(f"The journal of '{me.id}' is intact: {position.next} records in epoch {position.epoch}, all chained and signed.")


def main() -> None:
    """The console script."""
    commands.main(cli)

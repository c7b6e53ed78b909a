"""ringfence-agent journal | bundle: is the journal intact, and what goes out and comes in on a stick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from edge_agent import settings
from edge_agent.commands.session import State, err, out
from edge_agent.identity import identity
from edge_agent.line import airgap
from sync.audit import rows
from sync.kit import clock as clocks
from sync.kit import errors

bundle_cli = typer.Typer(help="The bundle that this agent decides by.", no_args_is_help=True)
journal_cli = typer.Typer(help="This agent's audit journal.", no_args_is_help=True)


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
    with Progress(*columns, console=err, transient=True) as bar:
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

"""ringfence-agent config: what the settings are, and where each comes from."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.table import Table

from edge_agent import settings
from edge_agent.commands.session import out
from edge_agent.settings import CONFIG, Settings

cli = typer.Typer(help="This agent's settings.", no_args_is_help=True)
File = Annotated[Path | None, typer.Option("--file", help=f"A file instead of the one that {CONFIG} names.", show_default=False)]


@cli.command()
def check(file: File = None) -> None:
    """Whether every setting is one, and has a value that it can have. Exit code 2 where not, with what is wrong."""
    _use(file)
    settings.read()
    out.print(f"The settings are good{f': {os.environ[CONFIG]}' if os.environ.get(CONFIG) else ''}.")


@cli.command()
def show(
    file: File = None,
    effective: Annotated[
        bool, typer.Option("--effective", help="All of them, not only those that differ from the default.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """The settings in force, and where each comes from: the environment, the file, or the default."""
    _use(file)
    chosen = settings.read()
    rows = [
        (name, getattr(chosen, name), where) for name in Settings.model_fields if (where := _where(name)) != "default" or effective
    ]
    if as_json:
        told = {name: {"value": value, "from": where} for name, value, where in rows}
        sys.stdout.write(json.dumps(told, default=str) + "\n")
        return
    table = Table("setting", "value", "from", box=None)
    for name, value, where in rows:
        table.add_row(name, str(value), where)
    out.print(table)


def _use(file: Path | None) -> None:
    if file is not None:
        os.environ[CONFIG] = str(file)


def _where(name: str) -> str:
    if f"RINGFENCE_AGENT_{name.upper()}" in os.environ:
        return "environment"
    path = os.environ.get(CONFIG)
    told = yaml.safe_load(Path(path).read_text()) if path else None
    return path if path and told and name in told else "default"

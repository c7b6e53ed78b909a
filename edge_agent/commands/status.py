"""ringfence-agent status."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer
from rich.table import Table

from edge_agent import settings
from edge_agent import status as status_file
from edge_agent.commands.session import State, out
from sync.kit import errors

MOMENTS = ("at", "since", "certificate_expires", "bundle_issued")


def status(state: State = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """How the running agent is: linked or not, its bundle, its models, what waits. Exit code 1 where it does not run."""
    path = settings.read(state=state).state / status_file.FILE
    if not path.exists():
        raise errors.Misconfigured(f"No agent has run with {path.parent}: start it with 'ringfence-agent run'.", code="not_running")
    told = json.loads(path.read_text())
    told["runs"] = bool(status_file.read(path.parent))
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

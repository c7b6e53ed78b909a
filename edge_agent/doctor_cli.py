"""ringfence-agent doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent import diagnosis, host_diagnosis, identity, line_diagnosis, settings
from sync.kit import checkup, logs

State = Annotated[
    Path | None, typer.Option("--state", help="The folder of the agent's keys, journal and cache.", show_default=False)
]


def doctor(state: State = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Looks this agent over: disk, bundle, journal, certificate, the line, models, engine, service, faults. Each line says what to do.

    Exit code 1 where one fails.
    """
    logs.configure(level="error")
    chosen = settings.read(state=state)
    me = identity.load(chosen.state, chosen.keyring)
    lines = [*checkup.disk(chosen.state), *diagnosis.lines(chosen, me), *line_diagnosis.lines(chosen, me)]
    raise typer.Exit(checkup.show([*lines, *host_diagnosis.lines(chosen, me)], as_json=as_json))

"""ringfence-agent doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_agent import settings
from edge_agent.commands import diagnosis, host_diagnosis, line_diagnosis
from edge_agent.commands.session import State
from edge_agent.identity import identity
from sync.kit import logs
from sync.terminal import checkup


def doctor(state: State = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Looks this agent over: disk, bundle, journal, certificate, the line, models, engine, service, faults. Each line says what to do.

    Exit code 1 where one fails.
    """
    logs.configure(level="error")
    chosen = settings.read(state=state)
    me = identity.load(chosen.state, chosen.keyring)
    lines = [*checkup.disk(chosen.state), *diagnosis.lines(chosen, me), *line_diagnosis.lines(chosen, me)]
    raise typer.Exit(checkup.show([*lines, *host_diagnosis.lines(chosen, me)], as_json=as_json))

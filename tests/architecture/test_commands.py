"""Both command lines: each command is where its table says, and does not wait for what the others need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.core import TyperGroup

from edge_agent.cli import cli as agent
from orchestrator.cli import cli as hub

HEAVY = ("aiohttp", "nats", "numpy", "onnxruntime", "sqlalchemy")


def commands(group: TyperGroup, path: str = "") -> Iterator[tuple[str, str]]:
    for name, command in group.commands.items():
        assert command.name == name
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command.help or ""


@pytest.mark.parametrize("group", [hub, agent], ids=lambda group: str(group.name))
def test_every_command_is_where_its_table_says_and_tells_what_it_does(group: TyperGroup) -> None:
    found = dict(commands(group))
    assert len(found) > 20
    assert all(help_.strip() for help_ in found.values())


@pytest.mark.parametrize(
    ("half", "command", "without"),
    [
        ("edge_agent", "status", HEAVY),
        ("edge_agent", "config", HEAVY),
        ("orchestrator", "keys", ("aiohttp", "nats", "onnxruntime")),
    ],
)
def test_a_command_imports_what_it_needs_alone(half: str, command: str, without: tuple[str, ...]) -> None:
    code = f"import sys; from {half}.cli import cli; cli.commands['{command}']; print(*sorted(set({without}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

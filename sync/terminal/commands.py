"""What both command lines share: every error is one sentence on standard error, and an exit code (see sync.kit.process)."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from sync.kit import errors
from sync.kit.process import FAULT, REFUSED

SHOW = "RINGFENCE_TRACEBACK"


class Table(Mapping[str, Any]):
    """The commands of a group by their names, each imported when it is looked up: who calls one does not wait for the others.

    `places`: MODULE:ATTRIBUTE of a function or a Typer; or a group.
    """

    def __init__(self, places: Mapping[str, str | TyperGroup]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> Any:
        place = self._places[name]
        if isinstance(place, TyperGroup):
            return place
        module, _, attribute = place.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.name = name
            return group
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        return typer.main.get_command(alone)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def group(name: str, help_: str, places: Mapping[str, str | TyperGroup]) -> TyperGroup:
    """A command of commands."""
    return TyperGroup(name=name, help=help_, commands=Table(places), no_args_is_help=True)  # type: ignore[arg-type]


def main(cli: Callable[[], object]) -> None:
    """Runs a command line."""
    try:
        cli()
    except errors.RingfenceError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)
    except Exception as error:
        if os.environ.get(SHOW):
            raise
        # The words of such an error may hold what no log may: its kind and its place do not.
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        sys.stderr.write(
            f"This failed inside ({type(error).__name__} at {place}), which is a fault of ours. {SHOW}=1 shows all of it.\n"
        )
        sys.exit(FAULT)


def read_file(path: Path) -> bytes:
    """The bytes of a file that a person has named. Raises Misconfigured."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.Misconfigured(f"The file {path} cannot be read ({error.strerror}).", code="file_unreadable") from error

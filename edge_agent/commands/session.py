"""What the command lines of the agent share: its folders, and the way to people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

State = Annotated[
    Path | None, typer.Option("--state", help="The folder of the agent's keys, journal and cache.", show_default=False)
]
Models = Annotated[Path | None, typer.Option("--models", help="The folder of models.", show_default=False)]
out = Console()
err = Console(stderr=True)

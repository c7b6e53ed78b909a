"""make bench: figures, each beside a limit or a peer measured in the same run, interleaved. Bounded in count; loopback only.

make bench                 all parts
make bench ONLY=gateway    one of: gateway, classifiers, inference, audit, ledger, line, fleet
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from rich.console import Console
from rich.table import Table


def scratch() -> Path:
    """The folder for what benches write: on the disk of the checkout, which git ignores."""
    folder = ROOT / ".bench"
    folder.mkdir(exist_ok=True)
    return folder


PARTS = ("classifiers", "audit", "ledger", "line", "fleet", "gateway", "inference")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `ratio` is figure / limit; `target` is what the ratio must reach, or (with `at_most`) the figure must not pass."""

    name: str
    figure: float
    unit: str
    limit: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


def at_least(name: str, figure: float, unit: str, limit: float, share: float | None = None) -> Row:
    """A figure that should reach a share of its limit."""
    ratio = figure / limit
    return Row(name, figure, unit, limit, ratio, f"≥ {share:.0%} of the limit" if share else "", ratio >= share if share else None)


def at_most(name: str, figure: float, unit: str, limit: float, most: float | None = None) -> Row:
    """A figure that should not pass `most`; its limit is what cannot be undercut."""
    return Row(name, figure, unit, limit, figure / limit, f"≤ {most:g} {unit}" if most else "", figure <= most if most else None)


def main() -> int:
    wanted = [part for part in PARTS if part in sys.argv[1:]] or list(PARTS)
    console = Console(width=150 if not sys.stdout.isatty() else None)
    rows: list[Row] = []
    for part in wanted:
        with console.status(f"measuring {part}"):
            rows += importlib.import_module(f"bench_{part}").measure()
    table = Table("figure", "", "unit", "limit in the same run", "ratio", "target", "met")
    for row in rows:
        told = (f"{row.figure:,.4g}", row.unit, f"{row.limit:,.4g}" if row.limit else "", f"{row.ratio:.2f}" if row.ratio else "")
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.met]
        table.add_row(row.name, *told, row.target, met)
    console.print(table)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    console.print(machine, highlight=False)
    Path("bench.json").write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n")
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

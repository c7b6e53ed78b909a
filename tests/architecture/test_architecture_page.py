"""The page for newcomers names what there is: each file, class and function on it exists.

Mutations that turn these red: rename `Exchange.complete` in the code, or a room's folder; leave a
room out of the page.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/architecture.md"
TEXT = PAGE.read_text()
SPAN = re.compile(r"`([^`\n]+)`")
NAMED = re.compile(r"(?P<path>[\w./-]+(?:/|\.(?:py|md)))(?::(?P<name>[\w.]+))?")
"""A folder with its slash, or a file, from the root; and a name in the file: `path.py:Class.method`."""
LINK = re.compile(r"\]\(([^)#]+)")
MAX_LINES = 200
MAX_LENGTH = 100
SPANS = sorted({(m["path"], m["name"] or "") for span in SPAN.findall(TEXT) if (m := NAMED.fullmatch(span))})
"""What the page names, once each: the path, and the name in it or an empty text."""


def _members(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Return the names that statements define, each with the statements of its own body."""
    found: dict[str, list[ast.stmt]] = {}
    for node in body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                found[node.name] = node.body
            case ast.Assign():
                found |= {target.id: [] for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = []
    return found


def _defines(path: Path, name: str) -> bool:
    body = ast.parse(path.read_text()).body
    for part in name.split("."):
        members = _members(body)
        if part not in members:
            return False
        body = members[part]
    return True


def test_the_page_names_files_and_names() -> None:
    """Else the test below would say nothing."""
    assert len([name for _, name in SPANS if name]) > 30
    assert len([path for path, _ in SPANS if path.endswith("/")]) > 20


@pytest.mark.parametrize(("path", "name"), SPANS)
def test_what_the_page_names_exists(path: str, name: str) -> None:
    there = ROOT / path
    assert there.is_dir() if path.endswith("/") else there.is_file(), f"{path} is not there"
    assert not name or _defines(there, name), f"{path} has no {name}"


def test_a_name_that_is_not_there_is_noticed() -> None:
    exchange = ROOT / "sync/serving/exchange.py"
    assert _defines(exchange, "Exchange.complete")
    assert not _defines(exchange, "Exchange.completed")
    assert not _defines(exchange, "complete")


def test_every_floor_and_every_room_is_on_the_page() -> None:
    named = {path for path, _ in SPANS}
    rooms = [
        folder.relative_to(ROOT).as_posix() + "/"
        for package in ("sync", "orchestrator", "edge_agent")
        for folder in sorted((ROOT / package).iterdir())
        if (folder / "__init__.py").exists()
    ]
    assert rooms and not [room for room in rooms if room not in named]


def test_every_link_of_the_page_leads_somewhere() -> None:
    targets = LINK.findall(TEXT)
    assert targets and not [target for target in targets if not (PAGE.parent / target).exists()]


def test_the_page_stays_short() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= MAX_LINES
    assert not [number for number, line in enumerate(lines, 1) if len(line) > MAX_LENGTH]

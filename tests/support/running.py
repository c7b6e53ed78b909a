"""A whole Ringfence for a test: the demonstration's own system, with the test's configuration and models."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import openai

from tests.support import system

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "packaging" / "models" / "repository"
CONFIGURATION = Path(__file__).parent / "tenants.yaml"
SCRIPTS = Path(sys.executable).parent
ONPREM = system.Place("frankfurt-onprem", "on_premise", "frankfurt")
PRIVATE = system.Place("dublin-private", "private_cloud", "dublin")
PUBLIC = system.Place("virginia-edge", "public_cloud", "virginia")
PATIENCE_S = 30.0
T = TypeVar("T")


def models(folder: Path) -> Path:
    """A models folder: the ones that ship, and some that compute nothing."""
    shutil.copytree(BUILT, folder)
    for name, options in {"quick": {}, "slow": {"words": 400, "every_ms": 20}, "echo": {"echo": True, "every_ms": 2}}.items():
        target = folder / name / "1"
        target.mkdir(parents=True)
        told = {"name": name, "version": "1", "task": "generate", "backend": "noop", "files": {}, "noop": options}
        (target / "manifest.json").write_text(json.dumps(told))
    return folder


async def start(folder: Path, *places: system.Place, tenant: str = "acme", models_folder: Path | None = None) -> system.System:
    """A running system with these agents."""
    made = system.System(folder / "run", list(places), models_folder or models(folder / "models"), CONFIGURATION)
    await made.prepare(tenant)
    made.start()
    await made.wait_for_hub()
    await made.wait_for_agents([place.name for place in places])
    return made


def client(running: system.System, key: str | None = None, **options: object) -> openai.OpenAI:
    """An unmodified OpenAI client."""
    settings = {"max_retries": 0, "timeout": 60, **options}
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=key or running.api_key, **settings)  # type: ignore[arg-type]


def command(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """One of our console scripts, as a person runs it."""
    script, *rest = map(str, arguments)
    path = {"PATH": f"{SCRIPTS}:/usr/bin:/bin", "COLUMNS": "200", "HOME": str(cwd or "/tmp")}
    return subprocess.run(
        [SCRIPTS / script, *rest], capture_output=True, text=True, cwd=cwd, env={**path, **environment}, timeout=60, check=False
    )


def eventually(look: Callable[[], T], what: str) -> T:
    """What `look` gives once it is true. Polls; fails with `what` after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"never happened: {what}")


def ledger_fields(running: system.System, kind: str) -> list[dict[str, object]]:
    """The fields of all records of a kind in the hub's ledger."""
    from orchestrator.ledger import segments
    from sync.audit import chain

    database = sqlite3.connect(f"file:{running.hub / 'ringfence.db'}?mode=ro", uri=True)
    rows = database.execute("select entries from ledger_segments").fetchall()
    database.close()
    entries = (chain.decode(data) for (packed,) in rows for _, data in segments.unpack(packed))
    return [entry.fields for entry in entries if entry.kind == kind]

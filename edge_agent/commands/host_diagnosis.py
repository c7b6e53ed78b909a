"""What `ringfence-agent doctor` finds out about this machine: models, engine, the service's rights, what runs with Python."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edge_agent.identity.identity import Identity
from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.meters import InferenceMeters
from edge_agent.inference.repository import adding
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.inference.repository.lifecycle import Limits, Repository
from edge_agent.settings import Settings
from sync.kit import errors
from sync.kit.metrics import Registry
from sync.terminal.checkup import Line, State

UNIT = "ringfence-agent.service"
MOST_EXPOSED = 2.0
ENGINE_S = 120.0


def lines(settings: Settings, me: Identity) -> Iterator[Line]:
    """A line a thing that was looked at."""
    if settings.models.is_dir():
        yield from _models(settings, me)
    else:
        yield Line("models", State.WARN, f"there is no folder {settings.models}", "add one: 'ringfence-agent models add'")
    yield from _unit()
    yield _startup_files(settings)


def _models(settings: Settings, me: Identity) -> Iterator[Line]:
    """Every file against its manifest's digest, then the smallest model run once."""
    repository = Repository(
        ModelsFolder(settings.models), hub=me.hub_key, resources=settings.resources, limits=Limits(0),
        meters=InferenceMeters(Registry()),
    )  # fmt: skip
    repository.scan()
    mistakes = list(_wrong(repository.folder, me))
    for mistake in mistakes:
        yield Line("models", State.FAIL, mistake, "fetch or add it again: 'ringfence-agent models verify' says more")
    if not repository.names:
        yield Line("models", State.WARN, "there is none", "add one: 'ringfence-agent models add'")
        return
    if not mistakes:
        yield Line("models", State.PASS, f"{', '.join(repository.names)}: every file is the one that its manifest names")
    name = repository.smallest()
    began = time.perf_counter()
    try:
        providers = asyncio.run(_run(repository, name))
    except (errors.RingfenceError, TimeoutError) as error:
        yield Line(
            "engine", State.FAIL, f"'{name}' does not run: {str(error) or 'not in time'}", "look at 'ringfence-agent models list'"
        )
    else:
        yield Line(
            "engine", State.PASS, f"'{name}' ran on {', '.join(providers) or 'nothing'} after {time.perf_counter() - began:.1f} s"
        )


def _wrong(folder: ModelsFolder, me: Identity) -> Iterator[str]:
    for name in folder.names():
        for version in folder.versions(name):
            try:
                adding.verify(folder.find(name, version), me.hub_key)
            except BadFolder as error:
                yield str(error)


async def _run(repository: Repository, name: str) -> tuple[str, ...]:
    """A model is loaded and run once as it warms up: on what."""
    try:
        async with asyncio.timeout(ENGINE_S), repository.lease(name) as model:
            return tuple(model.engine.providers)
    finally:
        await repository.close()


def _unit() -> Iterator[Line]:
    if not Path("/run/systemd/system").exists() or shutil.which("systemd-analyze") is None:
        yield Line(
            "service", State.WARN, "there is no systemd here", "whatever starts the agent: give it a user of its own, and no more"
        )
        return
    looked = subprocess.run(  # noqa: S603 - the words are this file's
        ["systemd-analyze", "security", UNIT],  # noqa: S607 - wherever the system has it
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    told = looked.stdout
    score = told.rsplit("exposure level for", 1)[-1].split(":")[-1].split()
    try:
        exposure = float(score[0])
    except (IndexError, ValueError):
        yield Line("service", State.WARN, f"{UNIT} is not installed", "ringfence-agent install --system, or the package")
        return
    fine = exposure <= MOST_EXPOSED
    advice = "" if fine else "an override gives it more rights than the package does: systemctl cat ringfence-agent"
    yield Line("service", State.PASS if fine else State.WARN, f"exposure {exposure} of 10 (systemd-analyze security)", advice)


def _startup_files(settings: Settings) -> Line:
    """Files that Python runs at each start, in whatever process: the way by which poisoned packages have come."""
    folders = [settings.home / "current/lib"] if settings.home is not None else [Path(entry) for entry in sys.path if entry]
    found = [path for folder in folders for path in sorted(folder.glob("*.pth")) if _runs_code(path)]
    if found:
        told = ", ".join(map(str, found[:5]))
        state = State.FAIL if settings.home is not None else State.WARN
        return Line("start-up files", state, f"Python runs these at each start: {told}", "who put them there? the package has none")
    return Line("start-up files", State.PASS, "none that Python would run")


def _runs_code(path: Path) -> bool:
    try:
        return any(line.startswith(("import ", "import\t")) for line in path.read_text(errors="replace").splitlines())
    except OSError:
        return True

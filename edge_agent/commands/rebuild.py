"""ringfence-agent rebuild: an agent whose disk was lost, made whole from its hub."""

from __future__ import annotations

import asyncio

import typer

from edge_agent import settings
from edge_agent.commands import models as model_commands
from edge_agent.commands.session import Models, State, out
from edge_agent.identity import identity
from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.repository.adding import Told
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.settings import Settings
from edge_agent.work.guard import Guard
from sync.bundle.snapshot import Snapshot
from sync.bus.nats import NatsBus
from sync.bus.port import BusUnavailable
from sync.kit import clock as clocks
from sync.kit import errors, files, logs
from sync.kit.ids import SiteId
from sync.wire import subjects

REACH_S = 30.0


def rebuild(models: Models = None, state: State = None) -> None:
    """After a lost disk: fetches the bundle and every model that it names for this place from the hub, then says how to go on.

    The keys went with the disk, so the agent is admitted anew first: 'enrol --request' here,
    'agents approve --replace' at the hub, and 'enrol --response' here. What its old journal held and the hub
    had not got is gone: 'ringfence audit gaps' at the hub says how much.
    """
    logs.configure(level="error")
    chosen = settings.read(models=models, state=state)
    snapshot = asyncio.run(_bundle(chosen))
    me = identity.load(chosen.state, chosen.keyring)
    agent = snapshot.agents[me.id]
    folder = ModelsFolder(files.make_private_folder(chosen.models))
    wanted = sorted({d.folder for model in snapshot.models.values() for d in model.deployments if agent.zone in d.zones})
    with model_commands.progress() as told:
        fetched, missing = _models(chosen, folder, wanted, told)
    out.print(f"The bundle of serial {snapshot.serial} is here, for '{me.id}' as {agent.zone} at '{agent.site}'.")
    if fetched:
        out.print(f"Models from the hub: {', '.join(fetched)}.")
    if missing:
        out.print(
            f"[yellow]The hub does not have {', '.join(missing)}: add them by hand, or publish them there and run this again.[/]"
        )
    out.print("Start it with: ringfence-agent run")
    raise typer.Exit(1 if missing else 0)


async def _bundle(chosen: Settings) -> Snapshot:
    """The site's bundle, fetched and kept. Raises Misconfigured where the hub is not to be had."""
    me = identity.load(chosen.state, chosen.keyring)
    site = SiteId(me.admission.site)
    guard = Guard(chosen.state, me.id, site, me.hub_key, me.keys.at_rest, clocks.SystemClock(), lambda *_: None)
    guard.load()
    login = me.login(chosen.broker_url)
    bus = NatsBus(login, me.id, agent=me.id)
    try:
        async with asyncio.timeout(REACH_S):
            await bus.connect()
            frame = await bus.get(subjects.BUNDLE_BUCKET, site)
    except (TimeoutError, BusUnavailable) as error:
        raise errors.Misconfigured(
            f"The broker at {login.url} is not reachable: look at the line, or at RINGFENCE_AGENT_BROKER_URL.", code="no_broker"
        ) from error
    finally:
        await bus.close()
    if frame is not None:
        guard.take(frame)
    if me.id not in guard.current.agents:
        raise errors.Misconfigured(f"The hub's bundle does not know '{me.id}' yet: is the hub running?", code="no_bundle")
    return guard.current


def _models(chosen: Settings, folder: ModelsFolder, wanted: list[str], told: Told) -> tuple[list[str], list[str]]:
    """What was fetched, and what the hub does not have."""
    fetched, missing = [], []
    for name in wanted:
        if (folder.path / name).exists():
            continue
        try:
            model_commands.from_hub(chosen, folder, name, "", told)
            fetched.append(name)
        except BadFolder:
            missing.append(name)
    return fetched, missing

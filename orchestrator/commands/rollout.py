"""ringfence agents release | upgrade: a release for the fleet, and its way there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import settings
from orchestrator.commands import models as model_commands
from orchestrator.commands.session import State, out, with_database
from orchestrator.distribution import packages as distribution
from orchestrator.distribution import rollout
from orchestrator.distribution.rollout import Outcome, Rollout
from orchestrator.store.administration import note
from orchestrator.store.fleet import SqlAgents
from sync.bus.nats import NatsBus
from sync.crypto import digest, keyring, releases
from sync.kit import clock as clocks
from sync.kit import errors, files
from sync.kit.ids import AgentId
from sync.terminal import commands
from sync.wire import packages

LISTEN_S = 1.5
"""Beats come each second: after this the running versions are known."""
_NAME = re.compile(r"ringfence-agent_([0-9][0-9A-Za-z.+~]*)_[a-z0-9]+\.deb")


def release(
    package: Annotated[Path, typer.Argument(help="The agent's .deb, with its SHA256SUMS and SHA256SUMS.sig beside it.")],
    key: Annotated[Path, typer.Option(help="The public release key, in PEM: what it has not signed is not handed out.")],
    state: State = None,
) -> None:
    """Checks a release and puts it into the hub's store, for 'agents upgrade'. Needs the running hub."""
    chosen = settings.read(state=state)
    match = _NAME.fullmatch(package.name)
    if match is None or not package.is_file():
        raise errors.Misconfigured(
            f"{package} is no package of the agent: ringfence-agent_VERSION_ARCHITECTURE.deb.", code="bad_release"
        )
    releases.check(package, commands.read_file(key))
    names = (package.name, releases.SUMS, releases.SIGNATURE)
    with tempfile.TemporaryDirectory(prefix="ringfence-release-") as folder:
        for name in names:
            shutil.copyfile(package.parent / name, Path(folder) / name)
        digests = {name: digest.file_sha256(str(Path(folder) / name)) for name in names}
        with_database(
            state, lambda database: note(database, what="release handed out", release=match[1], digest=digests[package.name])
        )
        told = {"name": packages.RELEASE, "version": match[1], "files": digests}
        files.write_atomically(Path(folder) / distribution.MANIFEST, json.dumps(told).encode())
        asyncio.run(_publish(chosen, Path(folder)))
    out.print(
        f"The release {match[1]} is in the store. To the fleet: ringfence agents upgrade {match[1]} --wave 10%", highlight=False
    )


def upgrade(
    version: Annotated[str, typer.Argument(help="A release that 'agents release' has put into the store.")],
    site: Annotated[str, typer.Option(help="The agents of one site alone.")] = "",
    wave: Annotated[str, typer.Option(help="How many at once, as a share of them.")] = "10%",
    within: Annotated[int, typer.Option(help="Seconds that an agent may take, its download included.", min=5)] = 900,
    state: State = None,
) -> None:
    """Has the fleet change to a release, wave by wave; the first agent that is not healthy with it stops the rest. Exit code 1 then."""
    share = int(wave[:-1]) if wave[-1:] == "%" and wave[:-1].isdecimal() else 0
    if not 0 < share <= 100:
        raise errors.Misconfigured(f"--wave {wave}: write it as 10%, from 1% to 100%.", code="bad_option")
    chosen = settings.read(state=state)
    admitted = with_database(state, lambda database: SqlAgents(database).agents())
    agents = [one.agent.id for one in admitted if not site or one.agent.site == site]
    if not agents:
        raise errors.Misconfigured(f"There are no agents{f' at {site}' if site else ''}.", code="no_agents")
    with_database(state, lambda database: note(database, what="rollout", release=version, agents=len(agents), site=site, wave=wave))
    failed, left = asyncio.run(_roll_out(chosen, version, rollout.waves(agents, share / 100), within))
    if failed:
        out.print(f"[red]Stopped:[/] {len(failed)} failed, {left} were not asked.", highlight=False)
        raise typer.Exit(1)
    out.print(f"[green]Done:[/] {len(agents)} agents run {version}.", highlight=False)


async def _publish(chosen: settings.Settings, folder: Path) -> None:
    bus = NatsBus(model_commands.login(chosen), f"release-{os.getpid()}")
    await bus.connect()
    try:
        with model_commands.progress() as told:
            await distribution.publish(bus, folder, keyring.load(chosen.keyring).signer, told)
    finally:
        await bus.close()


async def _roll_out(
    chosen: settings.Settings, version: str, plan: list[list[AgentId]], within_s: float
) -> tuple[list[Outcome], int]:
    """The failures, and how many agents were not asked."""
    bus = NatsBus(model_commands.login(chosen), f"rollout-{os.getpid()}")
    await bus.connect()
    try:
        if await bus.get(packages.BUCKET, packages.package_key(packages.RELEASE, version)) is None:
            raise errors.Misconfigured(f"The release {version} is not in the store: 'ringfence agents release'.", code="no_release")
        made = Rollout(bus, keyring.load(chosen.keyring).signer, clocks.SystemClock(), version, within_s)
        await made.watch()
        await asyncio.sleep(LISTEN_S)
        asked, failed = 0, []
        async for outcomes in made.run(plan):
            asked += len(outcomes)
            failed += [outcome for outcome in outcomes if outcome.state is rollout.State.FAILED]
            for outcome in outcomes:
                out.print(f"{outcome.agent}: {outcome.state.value}{f', {outcome.why}' if outcome.why else ''}", highlight=False)
        return failed, sum(map(len, plan)) - asked
    finally:
        await bus.close()

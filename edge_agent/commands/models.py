"""ringfence-agent models: the models of one agent, from where they come to which version is used."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_agent import settings
from edge_agent.commands.session import Models, State, err, out
from edge_agent.identity import identity
from edge_agent.inference import manifest as manifests
from edge_agent.inference.manifest import Manifest
from edge_agent.inference.port import Caller, Engine, Piece
from edge_agent.inference.repository import adding, hub_store, hugging_face, trust
from edge_agent.inference.repository import folder as folders
from edge_agent.inference.repository.adding import Told, Wish
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.inference.repository.lifecycle import Repository
from edge_agent.settings import Settings
from sync.bus.nats import NatsBus
from sync.crypto.signing import PublicKey
from sync.kit import errors, logs
from sync.wire import tasks

cli = typer.Typer(help="The models in this agent's folder.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The model's name.")]
Version = Annotated[str, typer.Argument(help="The version; without, the one that is used.")]


@cli.command()
def add(
    source: Annotated[
        str, typer.Argument(help="A folder, a .tar file, hf:ORGANISATION/NAME[@REVISION], or rf:NAME[@VERSION] of the hub.")
    ],
    name: Annotated[str, typer.Option(help="The name of its folder: what 'folder' in a deployment says.")] = "",
    task: Annotated[str, typer.Option(help="generate, embed, classify, rerank or tensors; without, as its files say.")] = "",
    version: Annotated[
        str, typer.Option(help="Its version; without, the next number. The highest is used until 'use' says another.")
    ] = "",
    trust_it: Annotated[
        bool, typer.Option("--trust", help="You have looked at where it is from: it is not signed by your hub.")
    ] = False,
    models: Models = None,
    state: State = None,
    subfolder: Annotated[str, typer.Option(help="Of a Hugging Face repository with several models, the folder of the one.")] = "",
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens of a text, for encoders.", show_default=False)] = None,
    pooling: Annotated[str, typer.Option(help="mean, cls or last, for embeddings.")] = "",
    scores: Annotated[str, typer.Option(help="softmax or sigmoid, for classify.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="A label, for classify; repeat in the order of the outputs.")] = None,
    licence: Annotated[str, typer.Option(help="Under which licence it is used.")] = "",
    temperature: Annotated[float | None, typer.Option(help="What a request that names none gets.", show_default=False)] = None,
    about: Annotated[str, typer.Option(help="A sentence about it.")] = "",
) -> None:
    """Takes a model in: looks at its files, digests them, tries it once, and puts it in whole."""
    chosen, folder, hub = _opened(models, state)
    fields: dict[str, object] = {
        "task": task, "max_tokens": max_tokens, "pooling": pooling, "scores": scores, "labels": label or [], "licence": licence,
        "temperature": temperature, "about": about,
    }  # fmt: skip
    wish = Wish(name, version, trust_it, fields)
    with progress() as told:
        made = _add(chosen, folder, hub, source, wish, subfolder, told)
    out.print(f"The model '{made.name}', version {made.version}, is added: {made.task}, {len(made.files)} files.")


@cli.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The file that 'ringfence models export' wrote.")],
    models: Models = None,
    state: State = None,
) -> None:
    """Takes a model that came on a stick, signed by this agent's hub."""
    if not file.is_file():
        raise errors.Misconfigured(f"There is no file {file}.", code="file_unreadable")
    chosen, folder, hub = _opened(models, state)
    with progress() as told:
        made = _add(chosen, folder, hub, str(file), Wish(), "", told)
    out.print(f"The model '{made.name}', version {made.version}, is added: {made.task}, {len(made.files)} files.")


@cli.command()
def pull(name: Name, models: Models = None, state: State = None) -> None:
    """Takes the newest version of a model from the hub, where this agent does not have it."""
    chosen, folder, hub = _opened(models, state)
    with progress() as told:
        made = _add(chosen, folder, hub, f"rf:{name}", Wish(), "", told)
    out.print(f"The model '{made.name}' has version {made.version} now.")


@cli.command("list")
def list_(
    models: Models = None, state: State = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """The models in the folder, which version is used, and what is wrong with those that cannot be."""
    _, folder, hub = _opened(models, state)
    table = Table("name", "version", "task", "MiB", "standing", "licence", "about")
    mistakes, rows = [], []
    for name in folder.names():
        try:
            found = folder.find(name)
            manifests.check(found.path, found.manifest)
            standing = trust.standing(found, hub)
        except manifests.BadFolder as error:
            mistakes.append(str(error))
            continue
        manifest, others = found.manifest, len(folder.versions(name)) - 1
        told = f"{manifest.version}{' (pinned)' if found.state.pinned else ''}{f', {others} more' if others else ''}"
        size = f"{folders.bytes_of(found) / 2**20:.1f}"
        table.add_row(name, told, manifest.task, size, standing.value, manifest.licence, manifest.about)
        rows.append(
            {
                "name": name,
                "version": manifest.version,
                "task": manifest.task,
                "standing": standing.value,
                "pinned": found.state.pinned,
            }
        )
    if as_json:
        sys.stdout.write(json.dumps({"models": rows, "mistakes": mistakes}) + "\n")
    else:
        out.print(table)
        for mistake in mistakes:
            out.print(f"[red]{mistake}[/]", highlight=False)
    raise typer.Exit(1 if mistakes else 0)


@cli.command()
def show(name: Name, version: Version = "", models: Models = None, state: State = None) -> None:
    """All that is known of a model: its manifest, its standing, its versions."""
    _, folder, hub = _opened(models, state)
    found = folder.find(name, version)
    told = json.loads(found.manifest.model_dump_json(exclude_defaults=True))
    told |= {"standing": trust.standing(found, hub).value, "digest": found.manifest.digest, "used": found.used}
    told |= {"versions": folder.versions(name), "previous": found.state.previous, "pinned": found.state.pinned}
    out.print_json(json.dumps(told))


@cli.command()
def verify(
    name: Annotated[str, typer.Argument(help="The model's name; without, all of them.")] = "",
    models: Models = None,
    state: State = None,
) -> None:
    """Whether every file is the one that was added, and nothing in it reaches out. Exit code 1 where one is not."""
    _, folder, hub = _opened(models, state)
    wrong = 0
    for one in [name] if name else folder.names():
        for version in folder.versions(one):
            try:
                standing = adding.verify(folder.find(one, version), hub)
                out.print(f"{one} {version}: intact, {standing.value}")
            except manifests.BadFolder as error:
                wrong += 1
                out.print(f"[red]{one} {version}: {error}[/]", highlight=False)
    raise typer.Exit(1 if wrong else 0)


@cli.command("trust")
def trust_(name: Name, version: Version = "", models: Models = None) -> None:
    """Says that you have looked at a model that lies in the folder: it may run, in a process of its own with a memory limit."""
    found = adding.trust_here(_folder(models), name, version)
    out.print(f"The model '{name}', version {found.manifest.version}, is trusted here as it is now.")


@cli.command()
def pin(name: Name, models: Models = None) -> None:
    """Loads a model when the agent starts, and never takes it out of memory."""
    folder = _folder(models)
    folder.find(name)
    folder.write_state(name, pinned=True)
    out.print(f"The model '{name}' is pinned.")


@cli.command()
def unpin(name: Name, models: Models = None) -> None:
    """Lets a model be taken out of memory again."""
    folder = _folder(models)
    folder.find(name)
    folder.write_state(name, pinned=False)
    out.print(f"The model '{name}' is no longer pinned.")


@cli.command()
def use(name: Name, version: Annotated[str, typer.Argument(help="The version.")], models: Models = None) -> None:
    """Chooses a version. A running agent loads it beside the other, and swaps without losing a request."""
    state = _folder(models).use(name, version)
    out.print(f"The model '{name}' is version {version} from now on; 'rollback' goes back to {state.previous or 'none'}.")


@cli.command()
def rollback(name: Name, models: Models = None) -> None:
    """Goes back to the version that was used before."""
    state = _folder(models).roll_back(name)
    out.print(f"The model '{name}' is version {state.use} again.")


@cli.command()
def remove(
    name: Name, version: Annotated[str, typer.Argument(help="The version; without, all of them.")] = "", models: Models = None
) -> None:
    """Removes a version that is not used, or a whole model."""
    gone = _folder(models).remove(name, version)
    out.print(f"Removed of '{name}': {', '.join(gone)}.")


@cli.command()
def bench(
    name: Name,
    models: Models = None,
    state: State = None,
    threads: Annotated[int | None, typer.Option(help="Threads to use.", show_default=False)] = None,
    streams: Annotated[int, typer.Option(help="Requests at a time.", min=1, max=64)] = 4,
    tokens: Annotated[int, typer.Option(help="Tokens of each answer, for text generation.", min=2, max=4096)] = 64,
) -> None:
    """How fast a model is on this machine, as it would be served."""
    logs.configure(level="error")
    chosen, folder, hub = _opened(models, state)
    found = folder.find(name)
    resources = replace(chosen.resources, optimised=None, threads=threads or chosen.threads)
    told = asyncio.run(_measure(Repository(folder, hub=hub, resources=resources), found.manifest, streams, tokens))
    table = Table(show_header=False, box=None)
    for what, figure in told.items():
        table.add_row(what, figure)
    out.print(table)


def _add(
    chosen: Settings, folder: ModelsFolder, hub: PublicKey | None, source: str, wish: Wish, subfolder: str, told: Told
) -> Manifest:
    """Fetches the source where it has to be, and adds it."""
    kind, _, rest = source.partition(":")
    if kind == "rf" and rest:
        name, _, version = rest.partition("@")
        return from_hub(chosen, folder, name, version, told)
    if kind == "hf" and rest:
        if not wish.trust:
            raise adding.Untrusted(
                f"{source} is not signed by this agent's hub: look at where it is from, and add it with --trust."
            )
        fetched, revision = hugging_face.fetch(folder, rest, subfolder=subfolder, told=told)
        name = wish.name or rest.partition("@")[0].rpartition("/")[2].lower()
        wish = replace(wish, name=name, fields={**(wish.fields or {}), "source": f"hf:{rest.partition('@')[0]}@{revision}"})
        made = adding.add(folder, fetched, wish, hub=hub, resources=chosen.resources, told=told)
        shutil.rmtree(folder.path / folders.INCOMING, ignore_errors=True)
        return made
    path = Path(source)
    if path.is_file():
        unpacked = adding.unpack(folder, path, told)
        try:
            wish = replace(wish, name=wish.name or path.name.split(".")[0].lower())
            return adding.add(folder, unpacked, wish, hub=hub, resources=chosen.resources, told=told, move=True)
        finally:
            shutil.rmtree(unpacked if unpacked.parent.name == folders.INCOMING else unpacked.parent, ignore_errors=True)
    return adding.add(folder, path, wish, hub=hub, resources=chosen.resources, told=told)


def from_hub(chosen: Settings, folder: ModelsFolder, name: str, version: str, told: Told) -> Manifest:
    """Fetches a model from the hub, and adds it. Raises BadFolder where the hub has none, or it is here already."""
    me = identity.load(chosen.state, chosen.keyring)

    async def fetch() -> tuple[Path, str, str]:
        bus = NatsBus(me.login(chosen.broker_url), me.id, agent=me.id)
        await bus.connect()
        try:
            package = await hub_store.find(bus, name, version, me.hub_key)
            if (folder.path / package.name / package.version).exists():
                raise manifests.BadFolder(
                    f"The model '{package.name}' is here already in version {package.version}, the hub's newest."
                )
            return await hub_store.fetch(bus, folder, package, told), package.name, package.version
        finally:
            await bus.close()

    fetched, _, _ = asyncio.run(fetch())
    made = adding.add(folder, fetched, Wish(), hub=me.hub_key, resources=chosen.resources, told=told, move=True)
    shutil.rmtree(fetched, ignore_errors=True)
    return made


async def _measure(repository: Repository, manifest: Manifest, streams: int, tokens: int) -> dict[str, str]:
    """Figures of a model: time to the first token and tokens a second, or texts a second."""
    repository.scan()
    began = time.perf_counter()
    async with repository.lease(manifest.name) as model:
        told = {
            "loaded in": f"{time.perf_counter() - began:.2f} s",
            "runs on": ", ".join(model.engine.providers),
            "as": model.standing.value,
        }
        if manifest.task == "generate":
            told |= await _measure_generation(model.engine, streams, tokens)
        elif manifest.task != "tensors":
            began, count = time.perf_counter(), 64
            asked = (_measured(manifest.task, f"Text {n} of a few words, to see how fast this goes.") for n in range(count))
            await asyncio.gather(*(model.engine.run(request, None, Caller()) for request in asked))
            told["texts"] = f"{count / (time.perf_counter() - began):,.0f} a second"
    await repository.close()
    return told


def _measured(task: str, text: str) -> tasks.Request:
    """Return a request of one text for an encoder."""
    if task == "rerank":
        return tasks.Rerank(("What is measured here?", text))
    return tasks.Embed((text,)) if task == "embed" else tasks.Classify((text,))


class _FirstPiece:
    """Notes when the first piece of an answer came, in seconds from now on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.after_s: float | None = None

    def __call__(self, piece: Piece) -> None:
        if self.after_s is None:
            self.after_s = time.perf_counter() - self._began

    async def room(self) -> None:
        """Wait for nobody: what comes is not kept."""
        await asyncio.sleep(0)


async def _measure_generation(engine: Engine, streams: int, tokens: int) -> dict[str, str]:
    firsts: list[float] = []

    async def one(number: int) -> int:
        start, first = time.perf_counter(), _FirstPiece()
        question = tasks.Message(tasks.Role.USER, f"Count from {number} on.")
        request = tasks.Generate(messages=(question,), max_tokens=tokens, temperature=1.0, seed=number)
        result = await engine.run(request, first, Caller())
        firsts.append(time.perf_counter() - start if first.after_s is None else first.after_s)
        return result.completion_tokens

    began = time.perf_counter()
    made = sum(await asyncio.gather(*(one(number) for number in range(streams))))
    rate = made / (time.perf_counter() - began)
    return {
        "first token": f"{statistics.median(firsts) * 1000:,.0f} ms (median of {streams})",
        "tokens": f"{rate:,.0f} a second in {streams} streams",
    }


def _folder(models: Path | None) -> ModelsFolder:
    return ModelsFolder(settings.read(models=models).models)


def _opened(models: Path | None, state: Path | None) -> tuple[Settings, ModelsFolder, PublicKey | None]:
    """The settings, the folder, and the key of the agent's hub where it has one."""
    chosen = settings.read(models=models, state=state)
    try:
        hub: PublicKey | None = identity.load(chosen.state, chosen.keyring).hub_key
    except errors.Misconfigured:
        hub = None
    return chosen, ModelsFolder(chosen.models), hub


@contextmanager
def progress() -> Iterator[Told]:
    """A bar for bytes, on the error output; nothing where nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    if not err.is_terminal and not os.environ.get("FORCE_COLOR"):
        yield adding.say_nothing
        return
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, whole: progress.update(task, description=what, completed=done, total=whole or None)

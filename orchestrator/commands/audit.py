"""ringfence audit: what the ledger holds, and the proof of it. Needs no running hub, and changes nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from orchestrator import settings
from orchestrator.commands import retention as retention_commands
from orchestrator.commands.session import State, err, out, progress, show, with_database
from orchestrator.ledger import checkpoints, export, records
from orchestrator.ledger.one_row import EveryRow, OneRow
from orchestrator.ledger.records import Record, Wanted
from orchestrator.ledger.verify import Report, Verifier
from orchestrator.records.witness import MAX_BODY, Witness
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.store.ledger import SqlLedger
from orchestrator.store.ledger_reading import AuthorRow, IncidentRow, SqlLedgerReader
from sync.audit import checkpoint, merkle
from sync.crypto import keyring
from sync.crypto.signing import PublicKey
from sync.kit import clock as clocks
from sync.kit import errors, files, process
from sync.kit.ids import AgentId, TenantId
from sync.serving.api.server import Server
from sync.terminal import commands

cli = typer.Typer(help="The ledger of audit records.", no_args_is_help=True)
retention_commands.add_to(cli)
Tenant = Annotated[str, typer.Option(help="Whose records.")]
Kind = Annotated[str, typer.Option(help="request, decided, tried, run, erasure, edit, …")]
Since = Annotated[str, typer.Option(help="From this time on: 2026-11-24, or 2026-11-24T08:00:00+01:00.")]
Until = Annotated[str, typer.Option(help="Before this time.")]
Where = Annotated[list[str], typer.Option("--where", help="A field that must be equal, as level=restricted. May be repeated.")]
TAIL_S = 1.0


@cli.command()
def verify(
    state: State = None,
    public_key: Annotated[
        Path | None, typer.Option(help="The hub's public key, where it is not the state folder's own.", show_default=False)
    ] = None,
) -> None:
    """Whether the ledger is what was written and signed. Needs no private key. Exit code 1 where it is not."""
    chosen = settings.read(state=state)
    key = hub_key(chosen, public_key)
    report, incidents = with_database(state, lambda database: _verify(database, key))
    for incident in incidents:
        out.print(f"[yellow]incident: {incident.kind} from {incident.author}: {incident.why}[/]", soft_wrap=True)
    for mistake in report.mistakes:
        out.print(f"[red]{mistake}[/]", soft_wrap=True)
    counted = f"{report.records} records of {report.authors} authors, {report.tenants} trees, {report.checkpoints} checkpoints"
    if report.expired:
        counted += f"; of {report.expired} records the hash alone is left, as retention has it"
    if not report.intact:
        out.print(f"[bold red]The ledger is NOT intact[/] ({counted}).")
        raise typer.Exit(1)
    out.print(f"The ledger is intact: {counted}.")


@cli.command()
def search(
    tenant: Tenant = "",
    kind: Kind = "",
    since: Since = "",
    until: Until = "",
    where: Where = [],  # noqa: B006 - typer reads the default, and nobody writes to it
    author: Annotated[str, typer.Option(help="The agent that wrote it; _hub for the hub.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many, the first ones.", min=1)] = 50,
    every: Annotated[bool, typer.Option("--all", help="Every record, and not one row a request.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON Lines.")] = False,
    state: State = None,
) -> None:
    """The records that fit, the oldest first: ringfence audit search --tenant acme --where level=restricted.

    One row a request: of the records that fit its outcome, else what was decided. --all or --kind shows each record.
    """
    wanted = _wanted(kind, author, since, until, where)

    async def look(database: Database) -> list[Record]:
        found: EveryRow | OneRow = EveryRow(limit) if every or kind else OneRow(limit)
        async with contextlib.aclosing(_records(database, tenant, wanted)) as matching:
            async for record in matching:
                found.add(record)
                if found.done:
                    break
        return found.rows

    found = with_database(state, look)
    if as_json:
        for record in found:
            sys.stdout.write(json.dumps(record.told()) + "\n")
        return
    table = Table("tenant", "leaf", "time", "kind", "author", "who", "model", "level", "zone", "outcome", "request", box=None)
    for record in found:
        told = record.told()
        columns = ("time", "kind", "author", "principal", "model", "level", "zone", "outcome", "request")
        table.add_row(record.tenant, str(record.leaf), *(str(told.get(column, "")) for column in columns))
    show(table)
    if len(found) == limit:
        err.print(f"These are the first {limit}: --limit shows more, --since later ones.")


@cli.command()
def tail(
    tenant: Tenant = "",
    kind: Kind = "",
    where: Where = [],  # noqa: B006 - as above
    lines: Annotated[int, typer.Option("-n", help="How many of the newest first.", min=0)] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Goes on with what comes, until Ctrl-C.")] = False,
    state: State = None,
) -> None:
    """The newest records as JSON Lines."""
    wanted = _wanted(kind, "", "", "", where)

    async def show(database: Database) -> None:
        reader = SqlLedgerReader(database)
        sizes = await _sizes(reader, tenant)
        newest = [
            record
            for name, size in sizes.items()
            async for record in records.find(reader.segments(name, from_leaf=max(0, size - 50 * max(1, lines))), wanted)
        ]
        newest.sort(key=lambda record: record.received_at)
        for record in newest[-lines:] if lines else ():
            _write(record)
        while follow:
            sys.stdout.flush()
            await asyncio.sleep(TAIL_S)
            for name, size in (await _sizes(reader, tenant)).items():
                async for record in records.find(reader.segments(name, from_leaf=sizes.get(name, 0)), wanted):
                    if record.leaf >= sizes.get(name, 0):
                        _write(record)
                sizes[name] = size

    with contextlib.suppress(KeyboardInterrupt):
        with_database(state, show)


@cli.command()
def prove(
    record: Annotated[str, typer.Argument(help="TENANT/LEAF as 'search' shows it, or a request's id for its outcome.")],
    to: Annotated[Path, typer.Option("--to", "-o", help="A folder for the record and its proof.")] = Path(),
    state: State = None,
) -> None:
    """Writes a record and the proof that it is in the ledger: packaging/verify/verify.py checks them anywhere."""

    async def make(database: Database) -> tuple[Record, str]:
        found = await _one(SqlLedgerReader(database), record)
        store = SqlLedger(database)
        signed = await store.checkpoint(found.tenant, await store.generation())
        if signed is None or signed.size <= found.leaf:
            raise errors.Misconfigured(
                f"Record {found.tenant}/{found.leaf} is under no checkpoint yet: the hub signs one each few seconds. Try again.",
                code="not_signed_yet",
            )
        hashes = await checkpoints.roots(store, found.tenant, merkle.inclusion_path(found.leaf, signed.size))
        return found, records.proof(found.leaf, hashes, signed.note)

    found, proof = with_database(state, make)
    to.mkdir(parents=True, exist_ok=True)
    name = f"{found.tenant}-{found.leaf}"
    files.write_atomically(to / f"{name}.record", found.item)
    files.write_atomically(to / f"{name}.tlog-proof", proof.encode())
    key = base64.b64encode(hub_key(settings.read(state=state), None)).decode()
    out.print(f"The record is in {to / name}.record, its proof in {to / name}.tlog-proof. To check them anywhere:")
    out.print(f"  python3 verify.py {name}.tlog-proof {name}.record --key {key}", soft_wrap=True, highlight=False)


@cli.command("export")
def export_(
    to: Annotated[Path, typer.Option("--to", "-o", help="The file to write.")],
    tenant: Tenant,
    form: Annotated[str, typer.Option("--format", help="jsonl, csv or cloudevents.")] = "jsonl",
    kind: Kind = "",
    since: Since = "",
    until: Until = "",
    where: Where = [],  # noqa: B006 - as above
    state: State = None,
) -> None:
    """Writes records to a file, and beside it FILE.proof: that each of them is in the ledger, checked by verify.py."""
    wanted = _wanted(kind, "", since, until, where)
    writer = export.writer(form)

    async def write(database: Database) -> export.Written:
        reader, store = SqlLedgerReader(database), SqlLedger(database)
        (name,) = await _sizes(reader, tenant)
        signed = await store.checkpoint(name, await store.generation())
        if signed is None:
            raise errors.Misconfigured(f"The ledger of '{tenant}' has no checkpoint yet: try again.", code="not_signed_yet")
        with progress() as bar:
            task = bar.add_task(f"exporting {tenant}", total=signed.size)
            found = records.find(reader.segments(name, containing=wanted.needles), wanted)
            done = await export.to_file(to, writer, found, signed.size, lambda leaf: bar.update(task, completed=leaf))
        hashes = await checkpoints.roots(store, name, merkle.coverage_path(done.ranges, signed.size))
        export.write_proof(to.with_name(f"{to.name}.proof"), done, hashes, signed.note)
        return done

    done = with_database(state, write)
    out.print(f"{done.count} records are in {to}, and the proof that they are in the ledger is in {to.name}.proof.")


@cli.command()
def gaps(state: State = None) -> None:
    """What is missing, was found wrong, or has fallen silent. Exit code 1 where there is anything."""

    async def look(database: Database) -> tuple[list[tuple[AgentId, str]], list[IncidentRow]]:
        reader = SqlLedgerReader(database)
        missing = [
            (
                row.position.author,
                _not_come(row),
            )
            for row in await reader.authors()
            if row.claimed_next > row.position.next
        ]
        return missing, await reader.incidents()

    missing, incidents = with_database(state, look)
    for author, what in missing:
        out.print(f"[yellow]{author}: {what}[/]", soft_wrap=True)
    table = Table("when", "kind", "author", "epoch", "what", box=None)
    for incident in incidents:
        table.add_row(records.moment(incident.at), incident.kind, incident.author, incident.epoch, incident.why)
    if incidents:
        show(table)
    if not missing and not incidents:
        out.print("Nothing is missing, and nothing was found wrong.")
        return
    raise typer.Exit(1)


@cli.command()
def witness(
    folder: Annotated[Path, typer.Option("--state", help="The witness's own folder: its key, and what it has signed.")],
    hub_key: Annotated[Path, typer.Option(help="The public key of the hub that it watches.")],
    name: Annotated[str, typer.Option(help="The witness's name, as host/path.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8760,
) -> None:
    """Runs a witness: a process on another machine, of other people, that signs only ledgers that were never rewritten."""
    if not name or any(c in name for c in " +\n"):
        raise errors.Misconfigured(
            "--name: a witness is named without spaces and plus signs, as witness.example/one.", code="bad_name"
        )
    watched = read_public_key(hub_key)
    files.make_private_folder(folder)
    keys = keyring.load_or_create(folder / "witness-keys.json")
    seen = Witness(folder, name, keys.signer, watched, clocks.SystemClock())
    server = Server(seen.routes(), option="--port", max_body=MAX_BODY)

    async def start() -> Server:
        at = await server.start(host, port)
        vkey = checkpoint.verifier_key(name, keys.signer.public_key, checkpoint.COSIGNATURE)
        sys.stdout.write(f"http://{host}:{at} {vkey}\n")
        sys.stdout.flush()
        return server

    raise typer.Exit(process.run(start))


def hub_key(chosen: Settings, given: Path | None) -> PublicKey:
    """The public key in this file, or else the hub's own."""
    if given is None and not chosen.state.exists():
        raise errors.Misconfigured(f"There is no hub in {chosen.state}: name its folder with --state.", code="no_hub")
    if given is None and not chosen.public_key.exists() and chosen.keyring.exists():
        return keyring.load(chosen.keyring).signer.public_key
    return read_public_key(given or chosen.public_key)


def read_public_key(path: Path) -> PublicKey:
    """A public key in base64. Raises Misconfigured."""
    try:
        key = base64.b64decode(commands.read_file(path), validate=False)
    except ValueError as error:
        raise errors.Misconfigured(f"{path} is no public key in base64.", code="bad_key_file") from error
    if len(key) != 32:
        raise errors.Misconfigured(f"{path} is no public key of 32 bytes in base64.", code="bad_key_file")
    return PublicKey(key)


async def _verify(database: Database, key: PublicKey) -> tuple[Report, list[IncidentRow]]:
    reader, verifier = SqlLedgerReader(database), Verifier(key)
    # What is acknowledged is read first: records that come while this runs are then not missed.
    claimed = [row.position for row in await reader.authors()]
    sizes = await reader.sizes()
    with progress() as bar:
        task = bar.add_task("verifying", total=sum(sizes.values()))
        for tenant in sizes:
            check = verifier.tenant(tenant, await reader.notes(tenant))
            async for segment in reader.segments(tenant):
                check.segment(segment)
                bar.update(task, completed=verifier.report.records)
            async for tile in reader.tiles(tenant):
                check.tile(tile)
            check.finish()
    return verifier.finish(claimed), await reader.incidents()


async def _records(database: Database, tenant: str, wanted: Wanted) -> AsyncGenerator[Record]:
    reader = SqlLedgerReader(database)
    for name in await _sizes(reader, tenant):
        async with contextlib.aclosing(records.find(reader.segments(name, containing=wanted.needles), wanted)) as found:
            async for record in found:
                yield record


async def _sizes(reader: SqlLedgerReader, tenant: str) -> dict[TenantId, int]:
    """The trees that are looked at: one, or all. Raises Misconfigured where there is none of that name."""
    sizes = await reader.sizes()
    if not tenant:
        return sizes
    if tenant not in sizes:
        raise errors.Misconfigured(
            f"The ledger has no records of '{tenant}': there are those of {', '.join(sizes) or 'nobody'}.", code="no_tenant"
        )
    return {TenantId(tenant): sizes[TenantId(tenant)]}


async def _one(reader: SqlLedgerReader, name: str) -> Record:
    """The record that is meant. Raises Misconfigured where there is none."""
    tenant, _, leaf = name.partition("/")
    if leaf.isascii() and leaf.isdigit():
        await _sizes(reader, tenant)
        async with contextlib.aclosing(reader.segments(TenantId(tenant), from_leaf=int(leaf))) as near:
            async for segment in near:
                for record in records.of(segment):
                    if record.leaf == int(leaf):
                        return record
    elif not leaf:
        wanted, best = Wanted(fields={"request": name}), OneRow(1)
        for each in await reader.sizes():
            async with contextlib.aclosing(records.find(reader.segments(each, containing=wanted.needles), wanted)) as found:
                async for record in found:
                    best.add(record)
                    if best.done:
                        break
            if best.rows:
                return best.rows[0]
    raise errors.Misconfigured(f"There is no record '{name[:100]}': give TENANT/LEAF or a request's id.", code="no_record")


def _wanted(kind: str, author: str, since: str, until: str, where: list[str]) -> Wanted:
    fields = {}
    for part in where:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise errors.Misconfigured(f"--where {part}: write it as field=value.", code="bad_option")
        fields[name] = value
    return Wanted(kind, author, _time("--since", since) or 0.0, _time("--until", until) or float("inf"), fields)


def _not_come(row: AuthorRow) -> str:
    return f"records {row.position.next} to {row.claimed_next - 1} of epoch {row.position.epoch} have not come"


def _time(option: str, text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).astimezone().timestamp() if text else None
    except ValueError as error:
        raise errors.Misconfigured(
            f"{option} {text}: write it as 2026-11-24 or 2026-11-24T08:00:00+01:00.", code="bad_option"
        ) from error


def _write(record: Record) -> None:
    sys.stdout.write(json.dumps(record.told()) + "\n")

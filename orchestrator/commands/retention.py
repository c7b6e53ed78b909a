"""ringfence audit erase | erasures | hold | holds | lift | subject: what is retained of people, and its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from orchestrator import settings
from orchestrator.commands.session import State, out, progress, show, with_database
from orchestrator.ledger import records
from orchestrator.ledger.records import Record, Wanted
from orchestrator.ledger.secrets import Secrets
from orchestrator.records.journals import HUB
from orchestrator.store.database import Database
from orchestrator.store.ledger_reading import SqlLedgerReader
from orchestrator.store.retention import EVERYTHING, ContentRow, Erasure, Hold, SqlRetention
from sync.crypto import keyring
from sync.kit import errors, files
from sync.kit.ids import TenantId

Tenant = Annotated[str, typer.Option(help="Whose records.")]
Subject = Annotated[str, typer.Option(help="The person, by the id that the app sent as x-ringfence-subject.")]


def add_to(cli: typer.Typer) -> None:
    """Puts these commands beside the others of the audit log."""
    for command in (erase, erasures, hold, holds, lift, subject):
        cli.command()(command)


def erase(
    tenant: Tenant,
    reason: Annotated[str, typer.Option(help="Why: goes into the audit log.")],
    subject: Subject = "",
    record: Annotated[str, typer.Option(help="One record, by its number in the tenant's tree.")] = "",
    state: State = None,
) -> None:
    """Destroys what is retained of a person or a record, here and at the sites: every proof stays valid. It cannot be undone."""
    if bool(subject) == bool(record):
        raise errors.Misconfigured("Name either --subject or --record.", code="bad_option")
    if record and not (record.isascii() and record.isdigit()):
        raise errors.Misconfigured(f"--record {record}: give the number that 'audit search' shows as leaf.", code="bad_option")

    async def run(database: Database) -> tuple[str, int]:
        store, whose = SqlRetention(database), TenantId(tenant)
        digest = _secrets(state).subject_digest(whose, subject) if subject else b""
        found = await (store.of_subject(whose, digest) if subject else store.of_record(whose, int(record)))
        rows = [row for row in found if not row.erased]
        if not rows:
            raise errors.Misconfigured(
                f"Nothing is retained of {'that subject' if subject else f'record {record}'} for '{tenant}': nothing was changed.",
                code="nothing_retained",
            )
        _check_holds(await store.holds(whose), rows)
        return await store.erase(whose, rows, reason, HUB, at=time.time()), len(rows)

    made, count = with_database(state, run)
    out.print(
        f"The contents of {count} records are destroyed here, as erasure {made}. Sites confirm when they are on line: "
        "'ringfence audit erasures' shows which have."
    )


def erasures(state: State = None) -> None:
    """What was destroyed, and which sites have yet to confirm it. Exit code 1 while any have."""

    async def look(database: Database) -> list[Erasure]:
        return await SqlRetention(database).erasures()

    found = with_database(state, look)
    table = Table("id", "tenant", "when", "records", "reason", "waits for", box=None)
    for made in found:
        waiting = ", ".join(made.waiting) or "nobody: complete"
        table.add_row(made.id, made.tenant, records.moment(made.at), str(made.records), made.reason, waiting)
    show(table)
    if any(made.waiting for made in found):
        raise typer.Exit(1)


def hold(
    tenant: Tenant,
    reason: Annotated[str, typer.Option(help="Why: the case or the order.")],
    subject: Subject = "",
    state: State = None,
) -> None:
    """A legal hold: nothing of the subject (without one: of the tenant) is destroyed by retention or erasure until it is lifted."""
    digest = _secrets(state).subject_digest(TenantId(tenant), subject) if subject else EVERYTHING

    async def run(database: Database) -> str:
        if TenantId(tenant) not in await SqlLedgerReader(database).sizes():
            raise errors.Misconfigured(f"The ledger has no records of '{tenant}'.", code="no_tenant")
        return await SqlRetention(database).hold(TenantId(tenant), digest, reason, at=time.time())

    out.print(f"{with_database(state, run)} holds {'the subject' if subject else 'everything'} of '{tenant}'.")


def holds(state: State = None) -> None:
    """The legal holds in force."""
    table = Table("id", "tenant", "of", "since", "reason", box=None)

    async def look(database: Database) -> list[Hold]:
        return await SqlRetention(database).holds()

    for held in with_database(state, look):
        what = "a subject" if held.subject else "everything"
        table.add_row(held.id, held.tenant, what, records.moment(held.since), held.reason)
    show(table)


def lift(hold: Annotated[str, typer.Argument(help="The hold's id.")], state: State = None) -> None:
    """Lifts a legal hold."""

    async def run(database: Database) -> bool:
        return await SqlRetention(database).lift(hold, at=time.time())

    if not with_database(state, run):
        raise errors.Misconfigured(f"There is no hold '{hold[:60]}' in force: 'ringfence audit holds' shows them.", code="no_hold")
    out.print(f"{hold} is lifted.")


def subject(
    subject: Annotated[str, typer.Argument(help="The person, by the id that the app sent, or a principal's name.")],
    tenant: Tenant,
    to: Annotated[Path, typer.Option("--to", "-o", help="The file to write: JSON, readable by its owner alone.")],
    state: State = None,
) -> None:
    """An access request: every record about a person or of a principal, with what is retained of it, in one file."""

    async def collect(database: Database) -> list[dict[str, object]]:
        whose, secrets = TenantId(tenant), _secrets(state)
        reader, store = SqlLedgerReader(database), SqlRetention(database)
        sizes = await reader.sizes()
        if whose not in sizes:
            raise errors.Misconfigured(f"The ledger has no records of '{tenant}'.", code="no_tenant")
        about = {row.leaf: row for row in await store.of_subject(whose, secrets.subject_digest(whose, subject))}
        found: dict[int, Record] = {}
        by_name = Wanted(fields={"principal": subject})
        requests: set[object] = set()

        async def search(what: str, fits: Callable[[Record], bool]) -> None:
            task = bar.add_task(what, total=sizes[whose])
            async for segment in reader.segments(whose):
                found.update({record.leaf: record for record in records.of(segment) if fits(record)})
                bar.update(task, completed=segment.first_leaf)

        with progress() as bar:
            await search("searching", lambda record: record.leaf in about or by_name.fits(record))
            requests |= {
                entry.fields["request"] for record in found.values() if (entry := record.entry) and "request" in entry.fields
            }
            # What ran for these requests was recorded by whoever ran it, which does not know whom it was about.
            await search(
                "their runs", lambda record: (entry := record.entry) is not None and entry.fields.get("request") in requests
            )
        return [await _told(record, about.get(leaf), store, secrets) for leaf, record in sorted(found.items())]

    found = with_database(state, collect)
    if not found:
        raise errors.Misconfigured(f"Nothing is known of '{subject[:60]}' for '{tenant}'.", code="unknown_subject")
    told = {"subject": subject, "tenant": tenant, "at": records.moment(time.time()), "records": found}
    files.write_atomically(to, json.dumps(told, indent=1).encode(), mode=files.PRIVATE)
    out.print(f"{len(found)} records are in {to}.")


async def _told(record: Record, row: ContentRow | None, store: SqlRetention, secrets: Secrets) -> dict[str, object]:
    kept = row or next(iter(await store.of_record(record.tenant, record.leaf)), None)
    contents: object = None
    if kept is not None:
        contents = "erased" if kept.erased else dict(secrets.open(kept.tenant, kept.sealed, kept.key).fields)
    return {**record.told(), "contents": contents}


def _check_holds(held: list[Hold], rows: list[ContentRow]) -> None:
    """Returns where no hold is on any of these. Raises Misconfigured."""
    subjects = {row.subject for row in rows}
    stopped = next((hold for hold in held if hold.subject == EVERYTHING or hold.subject in subjects), None)
    if stopped is not None:
        raise errors.Misconfigured(
            f"The legal hold {stopped.id} ({stopped.reason}) stops this: nothing was changed.", code="held"
        )  # fmt: skip


def _secrets(state: Path | None) -> Secrets:
    return Secrets(keyring.load(settings.read(state=state).keyring).at_rest)

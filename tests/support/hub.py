"""What a person does at a hub: asks, gives commands, looks into the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request

from orchestrator.ledger import records
from orchestrator.ledger.records import Wanted
from orchestrator.store.database import Database
from orchestrator.store.ledger_reading import SqlLedgerReader
from sync.audit import kinds
from tests.support import running as support
from tests.support import system


def at_hub(running: system.System, *arguments: object, code: int = 0) -> str:
    done = support.command("ringfence", *arguments, "--state", running.hub)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def ask(running: system.System, text: str, url: str = "", model: str = "quick", **headers: str) -> str:
    """The id of an answered request."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(f"{url or running.url}/v1/chat/completions", data=json.dumps(body).encode())
    for name, value in {"authorization": f"Bearer {running.api_key}", "cache-control": "no-store", **headers}.items():
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=60) as response:
        response.read()
        return str(response.headers["x-request-id"])


def in_ledger(running: system.System, request: str) -> list[dict[str, object]]:
    """What 'audit search' would print of a request, without a process for each look."""

    async def find() -> list[dict[str, object]]:
        database, wanted = Database(running.hub / "ringfence.db"), Wanted(fields={"request": request})
        await database.open()
        try:
            reader, found = SqlLedgerReader(database), []
            for tenant in await reader.sizes():
                async with contextlib.aclosing(records.find(reader.segments(tenant, containing=wanted.needles), wanted)) as rows:
                    found += [record.told() async for record in rows]
            return found
        finally:
            await database.close()

    return asyncio.run(find())


def await_record(running: system.System, request: str, count: int = 2) -> list[dict[str, object]]:
    """The outcome of a request and what ran, once there are so many of these."""

    def both() -> list[dict[str, object]] | None:
        rows = [row for row in in_ledger(running, request) if row["kind"] in (kinds.REQUEST, kinds.RUN)]
        return rows if len(rows) == count else None

    return support.eventually(both, "the records are in the ledger")

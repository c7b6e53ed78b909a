"""Records as files for others: JSON Lines, CSV, CloudEvents; with one proof that all of them are in the ledger."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger.records import Record
from sync.audit.merkle import Range
from sync.kit import errors, files

COLUMNS = (
    "tenant", "leaf", "author", "epoch", "sequence", "time", "received", "kind", "request", "principal", "task", "model", "level",
    "categories", "allowed", "rules", "agent", "zone", "region", "tried", "cache",
    "outcome", "code", "prompt_tokens", "completion_tokens", "ms",
)  # fmt: skip
PROOF_FORM = "ringfence/export-proof@v1"
Writer = Callable[[Record, bool], str]
"""The text of one record; True for the first of the file."""


@dataclass(frozen=True, slots=True)
class Written:
    """What went into a file: how many records, and which leaves of a tree of this size."""

    count: int
    ranges: list[Range]
    size: int


def writer(form: str) -> Writer:
    """How a form is written. Raises Misconfigured for one that there is not."""
    known = {"jsonl": _json_line, "csv": _csv_line, "cloudevents": _cloud_event}.get(form)
    if known is None:
        raise errors.Misconfigured(f"--format {form}: there are jsonl, csv and cloudevents.", code="bad_option")
    return known


async def to_file(
    path: Path, write: Writer, found: AsyncGenerator[Record], size: int, told: Callable[[int], None]
) -> Written:  # fmt: skip
    """Writes the records below leaf `size`, which a checkpoint covers. The file is whole or not there."""
    beside = path.with_name(f".{path.name}.part")
    count = 0
    ranges: list[Range] = []
    try:
        async with aclosing(found):
            with beside.open("w", newline="") as file:
                async for record in found:
                    if record.leaf >= size:
                        break
                    file.write(write(record, count == 0))
                    count += 1
                    if ranges and ranges[-1][1] == record.leaf:
                        ranges[-1] = (ranges[-1][0], record.leaf + 1)
                    else:
                        ranges.append((record.leaf, record.leaf + 1))
                    told(record.leaf)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise files.not_writable(path, error) from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return Written(count, ranges, size)


def write_proof(path: Path, written: Written, hashes: Sequence[bytes], note: str) -> None:
    """One proof for all records of an export: the leaves, the hashes of everything between them, and the checkpoint."""
    lines = [PROOF_FORM]
    lines += [f"leaves {low} {high}" for low, high in written.ranges]
    lines += [base64.b64encode(part).decode() for part in hashes]
    files.write_atomically(path, ("\n".join(lines) + "\n\n" + note).encode())


def _json_line(record: Record, _: bool) -> str:
    return json.dumps({**record.told(), "entry": base64.b64encode(record.item).decode()}) + "\n"


def _cloud_event(record: Record, _: bool) -> str:
    """CloudEvents 1.0 in JSON; the id is the record's place, which never changes."""
    told = record.told()
    event = {
        "specversion": "1.0", "id": f"{record.tenant}/{record.leaf}", "source": f"/ringfence/{record.author}",
        "type": f"eu.ringfence.audit.{told.get('kind', 'expired')}", "time": told.get("time", told["received"]),
        "subject": str(told.get("principal", "")), "datacontenttype": "application/json",
        "ringfencetenant": record.tenant, "ringfenceleaf": str(record.leaf),
        "ringfenceentry": base64.b64encode(record.item).decode(), "data": told,
    }  # fmt: skip
    return json.dumps({name: value for name, value in event.items() if value != ""}) + "\n"


def _csv_line(record: Record, first: bool) -> str:
    """RFC 4180, with the record's bytes last. What a spreadsheet would take for a formula is quoted as text."""
    buffer = io.StringIO()
    rows = csv.writer(buffer)
    if first:
        rows.writerow((*COLUMNS, "entry"))
    told = record.told()
    rows.writerow((*(_cell(told.get(column, "")) for column in COLUMNS), base64.b64encode(record.item).decode()))
    return buffer.getvalue()


def _cell(value: object) -> str:
    text = " ".join(map(_part, value)) if isinstance(value, list) else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _part(value: object) -> str:
    """One of the values of a cell; an agent that was tried is itself a list: f1/on_premise/agent_lost."""
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)

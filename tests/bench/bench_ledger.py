"""The ledger: records into trees against the bulk insert of the same bytes, what a record costs as the trees grow, and proofs.

RINGFENCE_BENCH_RECORDS sets how many records the large ledger has; 10 million by default, some 2 GB on the disk while it runs.
"""

from __future__ import annotations

import math
import os
import random
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from bench import Row, at_least, at_most, scratch
from bench_audit import FIELDS
from rich.progress import Progress

from orchestrator.ledger import checkpoints, records
from orchestrator.ledger.verify import Verifier
from orchestrator.store.ledger_reading import SqlLedgerReader
from sync.audit import merkle
from sync.crypto import signing
from sync.kit import files, process
from tests.support.ledgers import AUTHOR, EPOCH, TENANT, Batch, Filling

SIGNER = signing.Signer(bytes(32))
LARGE = int(os.environ.get("RINGFENCE_BENCH_RECORDS", "10000000"))
SLICE, ROUNDS = 100_000, 5
PROOFS = 300


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(dir=scratch()) as folder, process.runner() as runner:
        return [*runner.run(_ingest(Path(folder))), *runner.run(_large(Path(folder)))]


async def _ingest(folder: Path) -> list[Row]:
    made = Filling(files.make_private_folder(folder / "ingest"), SIGNER, FIELDS)
    await made.database.open()
    bulk = sqlite3.connect(folder / "bulk.db")
    bulk.execute("pragma journal_mode=wal")
    bulk.execute("pragma synchronous=full")
    bulk.execute(
        "create table records (tenant text, leaf integer, author text, epoch text, sequence integer, at real, entry blob, primary key (tenant, leaf)) without rowid"
    )
    ours, limits = [], []
    for _ in range(ROUNDS):
        batches = list(made.batches(SLICE))
        ours.append(await made.take(batches))
        limits.append(_insert(bulk, batches))
    reader = SqlLedgerReader(made.database)
    began = time.perf_counter()
    count = await _verify(reader)
    verified = count / (time.perf_counter() - began)
    await made.database.close()
    bulk.close()
    limit = statistics.median(limits)
    return [
        at_least("ledger, records into trees with checkpoints (limit: bulk insert of the same records)", statistics.median(ours), "records/s", limit, 0.5),
        at_least("ledger verify, trees, chains and checkpoints (limit: the same)", verified, "records/s", limit),
    ]  # fmt: skip


def _insert(bulk: sqlite3.Connection, batches: list[Batch]) -> float:
    began, count = time.perf_counter(), 0
    for batch in batches:
        rows = [
            (TENANT, envelope.first + n, AUTHOR, EPOCH, envelope.first + n, 1.7e9, entry)
            for envelope, _ in batch
            for n, entry in enumerate(envelope.entries)
        ]
        with bulk:
            bulk.executemany("insert into records values (?, ?, ?, ?, ?, ?, ?)", rows)
        count += len(rows)
    return count / (time.perf_counter() - began)


async def _verify(reader: SqlLedgerReader) -> int:
    verifier = Verifier(SIGNER.public_key)
    check = verifier.tenant(TENANT, await reader.notes(TENANT))
    async for segment in reader.segments(TENANT):
        check.segment(segment)
    async for tile in reader.tiles(TENANT):
        check.tile(tile)
    check.finish()
    report = verifier.finish([row.position for row in await reader.authors()])
    assert report.intact, report.mistakes
    return report.records


async def _large(folder: Path) -> list[Row]:
    """A ledger of many small records: the first ones' rate against the last ones', and proofs of records anywhere in it."""
    made = Filling(files.make_private_folder(folder / "large"), SIGNER, {"request": "req_" + "0" * 26})
    await made.database.open()
    first, last = [], []
    with Progress(transient=True) as progress:
        task = progress.add_task(f"{LARGE:,} records", total=LARGE)
        for done in range(0, LARGE, SLICE):
            rate = await made.take(list(made.batches(SLICE)))
            (first if done < ROUNDS * SLICE else last).append(rate)
            progress.update(task, completed=done)
    signed = await made.store.checkpoint(TENANT, 0)
    assert signed is not None and signed.size >= LARGE
    took, size, rng = [], 0, random.Random(1)
    for _ in range(PROOFS):
        leaf = rng.randrange(signed.size)
        began = time.perf_counter()
        hashes = await checkpoints.roots(made.store, TENANT, merkle.inclusion_path(leaf, signed.size))
        proof = records.proof(leaf, hashes, signed.note)
        took.append((time.perf_counter() - began) * 1000)
        size = max(size, len(proof))
    await made.database.close()
    grown = statistics.median(last[-ROUNDS:]) / statistics.median(first)
    return [
        Row(f"ledger, rate at {signed.size:,} records (limit: at its beginning; log n would allow {_share(signed.size):.2f})",
            statistics.median(last[-ROUNDS:]), "records/s", statistics.median(first), grown, f"≥ {_share(signed.size):.2f}", grown >= _share(signed.size)),
        at_most(f"proof of one record among {signed.size:,}, p50", statistics.median(took), "ms", min(took), 5),
        at_most("the same, p99", sorted(took)[int(PROOFS * 0.99)], "ms", min(took), 5),
        at_most("the same, largest", size, "bytes", 64 * 32, 2048),
    ]  # fmt: skip


def _share(size: int) -> float:
    """What is left of the rate where a record's cost grows with the logarithm of the tree's size."""
    return math.log(ROUNDS * SLICE / 2) / math.log(size)

"""The file of a journal: its tables, its signed positions, and whether it is what its author wrote. Does I/O."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from sync.audit import chain, sealed
from sync.crypto import signing
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch
from sync.wire import codec

_SCHEMA = """
create table if not exists entries (sequence integer primary key, entry blob not null);
create table if not exists contents (sequence integer primary key, at real not null, sealed blob not null, key blob not null);
create table if not exists meta (name text primary key, value blob not null) without rowid;
create table if not exists unfinished (request text primary key, sequence integer not null) without rowid;
"""
HEAD = "head"
"""The newest position, signed with each commit."""
ANCHOR = "anchor"
"""The position before the first row: what is older lies in sealed segments."""
BASE = "base"
"""The position before the oldest record that is kept, signed: a tombstone for everything older."""
PROVED = "proved"
"""The number below which the hub has proved that it holds the records."""
PIN = "pin:"
_AT_ONCE = 1000
_COUNTS = ("page_count", "freelist_count", "page_size")


def connect(path: Path) -> sqlite3.Connection:
    # A group's statement is another for each number of records, and a few are made for each group.
    database = sqlite3.connect(path, check_same_thread=False, timeout=10, cached_statements=512)
    # Takes effect on a new file alone: what is deleted is given back to the disk.
    database.execute("pragma auto_vacuum=incremental")
    database.execute("pragma secure_delete=on")
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    return database


def make(database: sqlite3.Connection) -> None:
    database.executescript(_SCHEMA)


def size(database: sqlite3.Connection) -> int:
    """Bytes that the rows take."""
    count, free, page = (int(database.execute(f"pragma {name}").fetchone()[0]) for name in _COUNTS)
    return (count - free) * page


def used(path: Path) -> int:
    """Bytes that a journal and its sealed segments take. Raises Corrupt."""
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            rows = size(database)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise errors.Corrupt(f"The journal {path} is not readable as a database: {error}.") from error
    folder = path.with_name(f"{path.name}.sealed")
    return rows + sum(file.stat().st_size for file in folder.glob("*.seg"))


def shelf(path: Path, author: AgentId, epoch: Epoch) -> sealed.Shelf:
    """The sealed segments that belong to a journal."""
    return sealed.Shelf(path.with_name(f"{path.name}.sealed"), author, epoch)


def meta(database: sqlite3.Connection, name: str) -> bytes | None:
    row = database.execute("select value from meta where name = ?", (name,)).fetchone()
    return row[0] if row else None


def set_meta(database: sqlite3.Connection, name: str, value: bytes) -> None:
    database.execute("insert into meta values (?, ?) on conflict (name) do update set value = excluded.value", (name, value))


def stored(position: chain.Position, signature: bytes) -> bytes:
    return codec.pack((position.author, position.epoch, position.next, position.head, signature))


def position(value: bytes) -> chain.Position:
    return _signed(value)[0]


def base(database: sqlite3.Connection, author: AgentId, epoch: Epoch, key: signing.PublicKey) -> chain.Position:
    """Where the kept records begin. Raises Broken where its tombstone is not the author's."""
    value = meta(database, BASE)
    if value is None:
        return chain.start(author, epoch)
    begins, signature = _signed(value)
    try:
        signing.verify(key, signing.TOMBSTONE, _bytes(begins), signature)
    except signing.BadSignature as error:
        raise chain.Broken(f"The tombstone for the records of {author} below {begins.next} is not signed by it.") from error
    return begins


def sign_base(begins: chain.Position, signer: signing.Signer) -> bytes:
    return stored(begins, signer.sign(signing.TOMBSTONE, _bytes(begins)))


def verify(path: Path, author: AgentId, key: signing.PublicKey, *, newest: int | None = None) -> chain.Position:
    """The position of an intact journal, with the author's public key alone. Raises Broken, naming the first bad record.

    `newest`: look at so many records before the signed head only.
    """
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return _check(path, database, author, key, newest)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise chain.Broken(f"The journal {path} is not readable as a database: {error}.") from error


def _check(path: Path, database: sqlite3.Connection, author: AgentId, key: signing.PublicKey, newest: int | None) -> chain.Position:
    head = meta(database, HEAD)
    if head is None:
        raise chain.Broken(f"The journal of {author} has no signed head.")
    claimed, signature = _signed(head)
    chain.verify_head(claimed, key, signature)
    anchor = meta(database, ANCHOR)
    begins = position(anchor) if anchor else base(database, author, claimed.epoch, key)
    first = 0 if newest is None else claimed.next - newest
    if first > begins.next:
        at = _position_before(database, begins, first)
    else:
        at = begins if newest is not None else _check_sealed(path, database, begins, key)
    rows = database.execute("select sequence, entry from entries where sequence >= ? order by sequence", (at.next,))
    while some := rows.fetchmany(_AT_ONCE):
        numbers = [number for number, _ in some]
        if numbers != list(range(at.next, at.next + len(some))):
            raise _missing(_follow_to_gap(at, some))
        at = chain.follow(at, [entry for _, entry in some])
    if at != claimed:
        raise chain.Broken(
            f"record {at.next - 1} of {author}, epoch {claimed.epoch} was changed, or later ones removed: "
            "it is not where the signed head stands.",
            sequence=at.next - 1,
        )
    return at


def _follow_to_gap(at: chain.Position, some: Sequence[tuple[int, bytes]]) -> chain.Position:
    """The position before the first number that is not there. Raises Broken where a record before it is not what it should be."""
    upto = next(i for i, (number, _) in enumerate(some) if number != at.next + i)
    return chain.follow(at, [entry for _, entry in some[:upto]])


def _check_sealed(path: Path, database: sqlite3.Connection, begins: chain.Position, key: signing.PublicKey) -> chain.Position:
    """The position before the first row, where the sealed segments lead to it from the signed base."""
    at = base(database, begins.author, begins.epoch, key)
    for segment in shelf(path, begins.author, begins.epoch).segments():
        if segment.end <= at.next:
            continue  # forgotten already: a kill came between its tombstone and its removal
        if segment.first >= begins.next:
            break
        if segment.before != at:
            raise _missing(at)
        at = sealed.follow(at, segment.items)
    if at != begins:
        raise _missing(at)
    return at


def _position_before(database: sqlite3.Connection, begins: chain.Position, number: int) -> chain.Position:
    """Where the chain stands before a row, as the row before it says."""
    row = database.execute("select entry from entries where sequence = ?", (number - 1,)).fetchone()
    if row is None:
        raise _missing(chain.Position(begins.author, begins.epoch, number - 1, chain.GENESIS))
    return chain.Position(begins.author, begins.epoch, number, chain.link(row[0]))


def has_head(path: Path) -> bool:
    """Whether anything was ever committed: a kill between making the file and its first record leaves an empty one."""
    database = sqlite3.connect(path)
    try:
        tables = {row[0] for row in database.execute("select name from sqlite_master")}
        return "meta" in tables and meta(database, HEAD) is not None
    except sqlite3.Error as error:
        raise errors.Corrupt(f"The journal {path} is not a database: {error}.") from error
    finally:
        database.close()


def _missing(at: chain.Position) -> chain.Broken:
    return chain.Broken(f"record {at.next} of {at.author}, epoch {at.epoch} is missing.", sequence=at.next)


def _signed(value: bytes) -> tuple[chain.Position, bytes]:
    match codec.unpack(value):
        case (str(author), str(epoch), int(number), bytes(head), bytes(signature)):
            return chain.Position(AgentId(author), Epoch(epoch), number, head), signature
    raise chain.Broken("A stored position of the journal is malformed.")


def _bytes(begins: chain.Position) -> bytes:
    return codec.pack((begins.author, begins.epoch, begins.next, begins.head))

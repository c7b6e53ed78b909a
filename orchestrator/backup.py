"""Backups of the hub: database, journal, keys and published models in one encrypted archive; and the way back.

Taken while the hub runs: SQLite's own online copy is of one moment. The database goes first and the journal after it, so the
journal is never behind. What was in the broker's journal stream comes again from the agents, which keep their records.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.settings import Settings
from sync.bus.port import Bus
from sync.crypto import archive
from sync.kit import errors, files
from sync.wire import packages, parcels

STREAMS = "models.parcel"
RESTORED = "restored.json"
"""Beside the restored state: the hub that starts on it begins a new generation of the ledger and a new epoch of its journal."""
_DATABASES = ("ringfence.db", "journal.db")
_FILES = ("hub-keys.json", "authority.json", "hub-public-key.txt", "faults.json")
MAX_MEMBER = 1 << 42
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """What an archive has: its files and their bytes."""

    names: tuple[str, ...]
    bytes: int


def backup(settings: Settings, to: Path, wrapper: archive.Wrapper, models: list[bytes], told: Told) -> Kept:
    """Writes the archive. Raises Misconfigured where there is no hub, or the file cannot be written; then nothing is left of it."""
    if not settings.database.exists() or not settings.keyring.exists():
        raise errors.Misconfigured(f"There is no hub in {settings.state}: name its folder with --state.", code="no_hub")
    beside = to.with_name(f".{to.name}.part")
    try:
        with tempfile.TemporaryDirectory(prefix="ringfence-backup-", dir=settings.state) as folder, beside.open("wb") as file:
            os.fchmod(file.fileno(), files.PRIVATE)
            parts = _collect(settings, Path(folder), models, told)
            writer = _Deflating(archive.Writer(file, wrapper))
            with tarfile.open(fileobj=writer, mode="w|") as tar:
                for path in parts:
                    told(path.name, 0, path.stat().st_size)
                    tar.add(path, arcname=path.name)
            writer.close()
            file.flush()
            os.fsync(file.fileno())
            kept = Kept(tuple(path.name for path in parts), sum(path.stat().st_size for path in parts))
        beside.replace(to)
    except OSError as error:
        raise files.not_writable(to, error) from error
    else:
        return kept
    finally:
        beside.unlink(missing_ok=True)


def restore(source: Path, state: Path, wrapper: archive.Wrapper, told: Told) -> Kept:
    """Puts a backup in place of nothing. Raises Misconfigured where there is a hub already; a wrong archive leaves nothing."""
    if state.exists() and any(state.iterdir()):
        raise errors.Misconfigured(f"{state} is not empty: move it away first; nothing was changed.", code="not_empty")
    beside = state.with_name(f".{state.name}.restoring-{os.getpid()}")
    try:
        files.make_private_folder(beside)
        kept = _unpack(source, beside, wrapper, told)
        _check(beside)
        files.write_atomically(beside / RESTORED, json.dumps({"from": source.name}).encode())
        if state.exists():
            state.rmdir()
        beside.rename(state)
        files.sync_folder(state.parent)
    except OSError as error:
        raise files.not_writable(state, error) from error
    else:
        return kept
    finally:
        shutil.rmtree(beside, ignore_errors=True)


async def published_models(bus: Bus) -> AsyncIterator[bytes]:
    """Everything in the bucket of models: key, a zero byte, and what lies under it."""
    async for key, data in bus.entries(packages.BUCKET):
        yield key.encode() + b"\0" + data


async def publish_again(bus: Bus, state: Path) -> None:
    """Puts the published models of a restored backup back into the broker, and removes the file that they were in."""
    for frame in parcels.read(state / STREAMS) if (state / STREAMS).exists() else ():
        key, _, data = frame.partition(b"\0")
        await bus.put(packages.BUCKET, key.decode(), data)
    files.remove(state / STREAMS)


def _collect(settings: Settings, folder: Path, models: list[bytes], told: Told) -> list[Path]:
    parts = []
    for name in _DATABASES:
        source = settings.state / name
        if source.exists():
            _copy_database(source, folder / name, told)
            parts.append(folder / name)
    sealed = settings.state / "journal.db.sealed"
    if sealed.exists():
        shutil.copytree(sealed, folder / sealed.name)
        parts.append(folder / sealed.name)
    if models:
        parcels.write(folder / STREAMS, models)
        parts.append(folder / STREAMS)
    return parts + [settings.state / name for name in _FILES if (settings.state / name).exists()]


def _copy_database(source: Path, target: Path, told: Told) -> None:
    try:
        here = sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)
        there = sqlite3.connect(target)
        try:
            # In one step: a copy in many would begin again with each write of the hub in between.
            here.backup(there, progress=lambda _, left, whole: told(source.name, whole - left, whole))
        finally:
            here.close()
            there.close()
    except sqlite3.Error as error:
        raise errors.Misconfigured(f"The database {source} cannot be copied: {error}.", code="database_unusable") from error


def _unpack(source: Path, into: Path, wrapper: archive.Wrapper, told: Told) -> Kept:
    names, size = [], 0
    try:
        with source.open("rb") as file:
            reader = _Inflating(archive.Reader(file, wrapper))
            with tarfile.open(fileobj=reader, mode="r|") as tar:
                for member in tar:
                    path = Path(member.name)
                    if (
                        path.is_absolute()
                        or ".." in path.parts
                        or not (member.isfile() or member.isdir())
                        or member.size > MAX_MEMBER
                    ):
                        raise archive.Damaged(f"The archive holds what is no part of a hub: {member.name[:80]}.")
                    told(member.name, 0, member.size)
                    member.mode = 0o700 if member.isdir() else files.PRIVATE
                    member.uid, member.gid = os.getuid(), os.getgid()
                    tar.extract(member, into)
                    names.append(member.name)
                    size += member.size
            reader.read_to_end()
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise archive.Damaged(f"{source} is damaged or cut off.") from error
    return Kept(tuple(names), size)


def _check(folder: Path) -> None:
    """Returns where the restored databases are whole. Raises Damaged."""
    for name in _DATABASES:
        if (folder / name).exists():
            database = sqlite3.connect(folder / name)
            try:
                (found,) = database.execute("pragma quick_check(1)").fetchone()
            except sqlite3.Error as error:
                found = str(error)
            finally:
                database.close()
            if found != "ok":
                raise archive.Damaged(f"The restored {name} is damaged: {found}.")
    if not (folder / "ringfence.db").exists() or not (folder / "hub-keys.json").exists():
        raise archive.Damaged("The archive lacks the hub's database or its keys.")


class _Deflating(io.RawIOBase):
    """A file to write to that compresses on the way."""

    def __init__(self, under: archive.Writer) -> None:
        self._under = under
        self._zlib = zlib.compressobj(1)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._under.write(self._zlib.compress(data))
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._under.write(self._zlib.flush())
            self._under.close()
        super().close()


class _Inflating(io.RawIOBase):
    """A file to read from that gives what was compressed."""

    def __init__(self, under: archive.Reader) -> None:
        self._under = under
        self._zlib = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        out = bytearray()
        while len(out) < size and not self._zlib.eof:
            data = self._zlib.unconsumed_tail or self._under.read(archive.CHUNK)
            if not data:
                raise EOFError
            out += self._zlib.decompress(data, size - len(out))
        return bytes(out)

    def read_to_end(self) -> None:
        """Reads what is left, so that the archive's end is checked too."""
        while self._under.read(archive.CHUNK):
            pass

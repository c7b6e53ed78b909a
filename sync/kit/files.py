"""Files that are either the old or the new, never half: written beside, synced, renamed. Secret ones are 0600 from birth."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sync.kit import errors

PRIVATE = 0o600
PUBLIC = 0o644


def write_atomically(path: Path, data: bytes, *, mode: int = PUBLIC) -> None:
    """Replaces the file with these bytes, durably. Raises Misconfigured where the folder cannot be written.

    Root may write into a folder of another user's: a link that lies there is not followed.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise not_writable(path, error) from error


def remove(path: Path) -> None:
    """Removes a file that may not be there, durably."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_folder(path: Path) -> Path:
    """The folder, made with mode 0700 where it is not there. Raises Misconfigured where it cannot be made or written."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise not_writable(path, error) from error
    return path


def read_private(path: Path) -> bytes:
    """The bytes of a secret file. Raises Misconfigured where others may read it, or it is not there.

    A service manager's credential is guarded by its folder, and its mode may show an access list's mask.
    """
    credential = path.parent == Path(os.environ.get("CREDENTIALS_DIRECTORY", os.devnull))
    try:
        if not credential and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise errors.Misconfigured(f"Others can read the secret file {path}: run chmod 600 {path}.", code="secret_file_open")
        return path.read_bytes()
    except OSError as error:
        raise errors.Misconfigured(f"The file {path} cannot be read ({error.strerror}).", code="file_unreadable") from error


def not_writable(path: Path, error: OSError) -> errors.Misconfigured:
    return errors.Misconfigured(
        f"{path} cannot be written ({error.strerror}): check its permissions and the space on its disk, or name another folder.",
        code="not_writable",
    )

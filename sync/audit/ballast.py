"""A file that takes room while there is some, and gives it up when the disk is full, so that what frees space can be written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

SIZE = 2 * 1024 * 1024


class Ballast:
    """One ballast file."""

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path = path
        self._size = size

    def load(self) -> None:
        """Takes the room again, where there is some."""
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size == self._size:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            except OSError:
                self._path.unlink()
            finally:
                os.close(descriptor)

    def drop(self) -> bool:
        """Gives the room up; whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

"""What both command lines share: every error is one sentence on standard error, and an exit code of 2.

1 is for answers: a ledger that is not intact, an agent that does not run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from sync.kit import errors

REFUSED = 2


def main(cli: Callable[[], object]) -> None:
    """Runs a command line."""
    try:
        cli()
    except errors.RingfenceError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)


def read_file(path: Path) -> bytes:
    """The bytes of a file that a person has named. Raises Misconfigured."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.Misconfigured(f"The file {path} cannot be read ({error.strerror}).", code="file_unreadable") from error

"""What both command lines share: every error is one sentence on standard error, and an exit code of 2.

1 is for answers: a ledger that is not intact, an agent that does not run. 70 is for a fault of ours (EX_SOFTWARE, sysexits.h).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from sync.kit import errors

REFUSED = 2
FAULT = 70
SHOW = "RINGFENCE_TRACEBACK"


def main(cli: Callable[[], object]) -> None:
    """Runs a command line."""
    try:
        cli()
    except errors.RingfenceError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)
    except Exception as error:
        if os.environ.get(SHOW):
            raise
        # The words of such an error may hold what no log may: its kind and its place do not.
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        sys.stderr.write(
            f"This failed inside ({type(error).__name__} at {place}), which is a fault of ours. {SHOW}=1 shows all of it.\n"
        )
        sys.exit(FAULT)


def read_file(path: Path) -> bytes:
    """The bytes of a file that a person has named. Raises Misconfigured."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.Misconfigured(f"The file {path} cannot be read ({error.strerror}).", code="file_unreadable") from error

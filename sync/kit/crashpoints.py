"""Named moments at which a test may end the process, as a power cut would: `RINGFENCE_CRASH_AT=name`, or `name:3` for the third.

Without that variable, reaching one is a comparison.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "RINGFENCE_CRASH_AT"
_wanted, _, _times = os.environ.get(VARIABLE, "").partition(":")
_left = [int(_times or 1)]


def reach(name: str) -> None:
    """Ends the process by kill -9 where this moment is the wanted one."""
    if name != _wanted:
        return
    _left[0] -= 1
    if _left[0] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)

"""What a running agent says of itself, in a file of its state folder: for commands that need no line to it."""

from __future__ import annotations

import json
import time
from pathlib import Path

FILE = "status.json"
STALE_S = 10.0
"""It is written each two seconds: one that is older is of an agent that no longer runs."""


def read(state: Path) -> dict[str, object]:
    """What the running agent says; empty where none runs."""
    try:
        told = json.loads((state / FILE).read_text())
        return dict(told) if time.time() - told["at"] < STALE_S else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}

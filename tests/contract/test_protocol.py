"""sync/PROTOCOL.md names every kind of the running of a request with exactly its fields, so that it can be built again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sync.wire import messages
from sync.wire.types import fields

TEXT = (Path(__file__).parents[2] / "sync" / "PROTOCOL.md").read_text()
KINDS = (
    messages.Run,
    messages.Accepted,
    messages.Chunk,
    messages.Done,
    messages.Failed,
    messages.Credit,
    messages.Cancel,
    messages.Ping,
    messages.Pong,
    messages.Forward,
    messages.Placed,
    messages.Beat,
    messages.Sealed,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_every_kind_of_running_has_its_row_with_its_fields(kind: type) -> None:
    row = next(line for line in TEXT.splitlines() if re.match(rf"\| .*`{kind.KIND}`.* \| .*iB", line))
    told = re.findall(r"`([a-z_, ]+)`", row.split("|")[3])
    assert told[0].split(", ") == list(fields(kind))

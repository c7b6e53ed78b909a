"""What every test stands on: real servers on free ports, real files in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"


import hypothesis
import pytest

from sync.crypto import keyring
from sync.kit.clock import ManualClock
from tests.support import natsd

hypothesis.settings.register_profile("ours", deadline=None, max_examples=60)
hypothesis.settings.load_profile("ours")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keys(tmp_path: Path) -> keyring.Keyring:
    return keyring.load_or_create(tmp_path / "keys.json")


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[natsd.NatsServer]:
    """One nats-server for all tests that do not stop it."""
    server = natsd.NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def own_nats_server(tmp_path: Path) -> AsyncIterator[natsd.NatsServer]:
    """A nats-server of the test's own, which it may kill."""
    server = natsd.NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()

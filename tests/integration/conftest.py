"""One system for all stories that do not break it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import openai
import pytest

from orchestrator.access import keys as access
from orchestrator.store.administration import SqlKeys
from orchestrator.store.database import Database
from tests.support import running as support
from tests.support import system


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    places = (support.ONPREM, support.PRIVATE, support.PUBLIC)
    made = asyncio.run(support.start(tmp_path_factory.mktemp("system"), *places))
    yield made
    made.stop_all()


@pytest.fixture
def app(running: system.System) -> Iterator[openai.OpenAI]:
    """The client of an app of the tenant acme."""
    with support.client(running) as client:
        yield client


@pytest.fixture(scope="session")
def key_of(running: system.System) -> Callable[[str], str]:
    """A key of another tenant, once the hub knows it."""
    made: dict[str, str] = {}

    async def issue(tenant: str) -> str:
        database = Database(running.hub / "ringfence.db")
        issued = access.issue(tenant, "app", "user")
        await SqlKeys(database).add(issued.record, at=time.time())
        await database.close()
        return issued.text

    def known(key: str) -> bool:
        try:
            with support.client(running, key) as client:
                return bool(client.models.list())
        except openai.AuthenticationError:
            return False

    def get(tenant: str) -> str:
        if tenant not in made:
            made[tenant] = asyncio.run(issue(tenant))
            support.eventually(lambda: known(made[tenant]), "the hub knows the new key")
        return made[tenant]

    return get

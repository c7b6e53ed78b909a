"""A hub and three agents in this process, for laws about the path of a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync.bundle import snapshot
from sync.kit.ids import ModelName
from sync.wire.levels import Level, Zone
from tests.support import builders
from tests.support.house import House

MODELS = tuple(ModelName(name) for name in ("guide", "slow", "quick", "sleepy"))
LIMITS = snapshot.Limits(100_000, 10_000_000, 256, 4096)
REDACTING = (
    snapshot.Route(Level.PUBLIC, (Zone.PUBLIC_CLOUD,), ()),
    snapshot.Route(Level.INTERNAL, (Zone.PUBLIC_CLOUD,), ()),
    snapshot.Route(Level.CONFIDENTIAL, (Zone.PUBLIC_CLOUD,), ()),
    snapshot.Route(Level.RESTRICTED, (Zone.PUBLIC_CLOUD,), ()),
)
TENANTS = (
    builders.tenant("acme", allowed_models=MODELS, limits=LIMITS),
    builders.tenant(
        "redacto",
        allowed_models=MODELS,
        limits=LIMITS,
        routes=REDACTING,
        redaction=snapshot.Redaction("pseudonym", (Zone.PUBLIC_CLOUD,)),
    ),
    builders.tenant("small", allowed_models=MODELS, limits=snapshot.Limits(100_000, 400, 8, 4096)),
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with House(tmp_path, TENANTS, tuple(builders.model(name) for name in MODELS)) as made:
        yield made

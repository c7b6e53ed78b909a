"""The agent's settings, read once at the start: from the environment (RINGFENCE_AGENT_…), then from the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pydantic
from pydantic_settings import BaseSettings, SettingsConfigDict

from sync.kit import errors


class Settings(BaseSettings):
    """What one agent process is told. Who and where it is comes from its admission, not from here."""

    model_config = SettingsConfigDict(env_prefix="RINGFENCE_AGENT_", extra="ignore", frozen=True)

    state: Path = Path("ringfence-agent-state")
    """The folder of everything that the agent keeps: keys, admission, bundle, journal, cache."""

    models: Path = Path("models")
    """The folder of its models: models/<name>/<version>/manifest.json."""

    threads: int = pydantic.Field(max(1, (os.cpu_count() or 2) // 2), ge=1, le=1024)
    """Threads that one model may use. Half the cores by default: the other half serves."""

    cache_mib: int = pydantic.Field(256, ge=0, le=1_000_000)
    """MiB of answers to keep. 0 keeps none."""

    broker_url: str = ""
    """Where the broker is, if not where the admission says: behind a leaf node, for one."""

    log_level: str = pydantic.Field("info", pattern="^(debug|info|warning|error)$")
    """debug, info, warning or error."""

    @property
    def journal(self) -> Path:
        return self.state / "journal.db"


def read(**given: object) -> Settings:
    """The settings; what is given and not None goes before the environment. Raises Misconfigured naming each wrong one."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except pydantic.ValidationError as error:
        wrong = "; ".join(f"RINGFENCE_AGENT_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise errors.Misconfigured(f"A setting is wrong: {wrong}.", code="bad_setting") from error

"""The agent's settings, read once at the start: from the command line, the environment (RINGFENCE_AGENT_…), then a file.

The file is the one that RINGFENCE_AGENT_CONFIG names: YAML, with the settings' own names as keys.
"""

from __future__ import annotations

import os
from pathlib import Path

import pydantic
from pydantic_settings import SettingsConfigDict

from classifiers.onnx.setup import CPU
from edge_agent.inference.opening import Resources
from sync.kit import settings as base
from sync.kit.settings import FileSettings

CONFIG = "RINGFENCE_AGENT_CONFIG"
"""The variable that names the file."""


class Settings(FileSettings):
    """What one agent process is told. Who and where it is comes from its admission, not from here."""

    CONFIG = CONFIG
    model_config = SettingsConfigDict(env_prefix="RINGFENCE_AGENT_", extra="ignore", frozen=True)

    state: Path = Path("ringfence-agent-state")
    """The folder of everything that the agent keeps: keys, admission, bundle, journal, cache."""

    keys: Path | None = None
    """The file of its private keys, if not agent-keys.json in the state folder: a service manager's credential, for one."""

    home: Path | None = None
    """Where its releases are, if it was installed as a package: the launcher says so."""

    models: Path = Path("models")
    """The folder of its models: models/<name>/<version>/manifest.json."""

    threads: int = pydantic.Field(max(1, (os.cpu_count() or 2) // 2), ge=1, le=1024)
    """Threads that one model may use. Half the cores by default: the other half serves."""

    kv_mib: int = pydantic.Field(512, ge=1, le=1_000_000)
    """MiB of key-value cache that one text generator may use; a quarter of it for what earlier prompts left."""

    stream_quiet_s: float = pydantic.Field(15.0, ge=1, le=3600)
    """Seconds of silence in a stream after which a comment is sent: proxies cut quiet connections after 30 or 60."""

    models_mib: int = pydantic.Field(0, ge=0, le=10_000_000)
    """MiB that all loaded models may take together: the least lately used goes first. 0 for no limit."""

    worker_mib: int = pydantic.Field(4096, ge=256, le=10_000_000)
    """MiB of address space for the process of a model that the hub has not signed."""

    providers: tuple[str, ...] = (CPU,)
    """onnxruntime's execution providers, in the order of preference, as a JSON list."""

    provider_fallback: bool = False
    """Whether the CPU will do where none of them is there."""

    egress: tuple[str, ...] = ()
    """Where upstream servers may be, as a JSON list of host:port, or host:port@network for addresses inside."""

    http_host: str = "127.0.0.1"
    """The address of the site's own API."""

    http_port: int | None = pydantic.Field(None, ge=0, le=65535)
    """Its port; 0 takes a free one. Without it there is no API at the site."""

    cache_mib: int = pydantic.Field(256, ge=0, le=1_000_000)
    """MiB of answers to keep. 0 keeps none."""

    journal_mib: int = pydantic.Field(1024, ge=0, le=10_000_000)
    """MiB that the audit journal may take, with warnings at 70 and 90 %; requests are refused at the cap. 0 for none."""

    backlog_kib_s: int = pydantic.Field(0, ge=0, le=10_000_000)
    """KiB a second that records which have waited for the line may take of it. 0 for no limit."""

    backlog_hours: str = ""
    """The hours in which such records leave, as 22:00-06:00 by the machine's clock; empty for always."""

    broker_url: str = ""
    """Where the broker is, if not where the admission says: nats://127.0.0.1:4222 for a leaf node on this machine, for one."""

    log_level: str = pydantic.Field("info", pattern="^(debug|info|warning|error)$")
    """debug, info, warning or error."""

    @property
    def keyring(self) -> Path:
        return self.keys or self.state / "agent-keys.json"

    @property
    def journal(self) -> Path:
        return self.state / "journal.db"

    @property
    def resources(self) -> Resources:
        """What one model may use."""
        return Resources(
            threads=self.threads, kv_mib=self.kv_mib, worker_mib=self.worker_mib, providers=self.providers,
            may_fall_back=self.provider_fallback, egress=self.egress, optimised=self.state / "optimised",
        )  # fmt: skip


def read(**given: object) -> Settings:
    """The settings; what is given and not None goes before the environment. Raises Misconfigured naming each wrong one."""
    return base.read(Settings, given)

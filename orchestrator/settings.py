"""The hub's settings, read once at the start: from the command line, the environment (RINGFENCE_…), then a file.

The file is the one that RINGFENCE_CONFIG names: YAML, with the settings' own names as keys.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pydantic
from pydantic_settings import SettingsConfigDict

from sync.kit import settings as base
from sync.kit.settings import FileSettings

CONFIG = "RINGFENCE_CONFIG"
"""The variable that names the file."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on


class Settings(FileSettings):
    """What one hub process is told."""

    CONFIG = CONFIG
    model_config = SettingsConfigDict(env_prefix="RINGFENCE_", extra="ignore", frozen=True)

    state: Path = Path("ringfence-state")
    """The folder of everything that the hub keeps: keys, database, journal, broker. Back it up as a whole."""

    http_host: str = "127.0.0.1"
    """The address to listen on. On loopback by default: put a TLS proxy before it to open it."""

    http_port: int = pydantic.Field(8700, ge=0, le=65535)
    """0 takes a free one."""

    nats_url: str = ""
    """A NATS server to use. Empty: the hub starts its own, in the state folder."""

    nats_host: str = "127.0.0.1"
    """Where the hub's own nats-server listens: an address that agents on other machines reach, where there are such."""

    name: str = ""
    """The host by which agents know this hub: it stands in its servers' certificates. By default where its broker listens."""

    nats_port: int = pydantic.Field(4222, ge=0, le=65535)
    """The port of the hub's own nats-server. 0 takes a free one."""

    enrol_port: int = pydantic.Field(8701, ge=0, le=65535)
    """Where agents show their invitations and renew their certificates, by HTTPS, where the broker listens. 0 takes a free one."""

    certificate_hours: float = pydantic.Field(24.0, ge=0.001, le=720)
    """Hours that an agent's certificate counts. It is renewed at half of that."""

    certificate_grace_days: float = pydantic.Field(30.0, ge=0, le=365)
    """Days after its end in which a certificate still gets its agent the next one: for sites whose line was cut."""

    region: str = "eu-central-1"
    """Where the hub is: requests go to the nearest admitted region first."""

    request_timeout_s: float = pydantic.Field(120.0, gt=0, le=3600)
    """Seconds that a request may take, from its admission to its last byte."""

    stream_quiet_s: float = pydantic.Field(15.0, ge=1, le=3600)
    """Seconds of silence in a stream after which a comment is sent: proxies cut quiet connections after 30 or 60."""

    checkpoint_s: float = pydantic.Field(10.0, ge=0.1, le=3600)
    """Seconds between signed checkpoints of the ledger, where something is new."""

    journal_mib: int = pydantic.Field(4096, ge=0, le=10_000_000)
    """MiB that the hub's own journal may take, with warnings at 70 and 90 %; requests are refused at the cap. 0 for none."""

    journal_stream_mib: int = pydantic.Field(1024, ge=16, le=1_000_000)
    """MiB that waiting journal envelopes may take at the broker; well below its disk, since a full one freezes it."""

    witnesses: tuple[str, ...] = ()
    """Who cosigns checkpoints, as a JSON list of "URL VERIFIER-KEY": 'ringfence audit witness' prints its own."""

    siem: tuple[str, ...] = ()
    """Where audit records go as they come, as a JSON list of syslog+tcp://, syslog+udp:// or otlp+http:// URLs."""

    nats_leaf_port: int | None = pydantic.Field(None, ge=1, le=65535)
    """Where the hub's own broker takes leaf nodes of sites. Without it, none."""

    log_level: str = pydantic.Field("info", pattern="^(debug|info|warning|error)$")
    """debug, info, warning or error."""

    @property
    def database(self) -> Path:
        return self.state / "ringfence.db"

    @property
    def keyring(self) -> Path:
        return self.state / "hub-keys.json"

    @property
    def authority(self) -> Path:
        """The certificate authority."""
        return self.state / "authority.json"

    @property
    def certificates(self) -> Path:
        """The certificates of its servers, and of its own connection."""
        return self.state / "tls"

    @property
    def hosts(self) -> tuple[str, ...]:
        """By which names and addresses this hub is known."""
        own = ("127.0.0.1", "localhost")
        return tuple(host for host in (*own, self.nats_host, self.known_as) if host and host not in EVERYWHERE)

    @property
    def known_as(self) -> str:
        return self.name or (self.nats_host if self.nats_host not in EVERYWHERE else socket.gethostname())

    @property
    def public_key(self) -> Path:
        """The hub's public signing key, in base64: what `audit verify` needs, elsewhere too."""
        return self.state / "hub-public-key.txt"

    @property
    def journal(self) -> Path:
        return self.state / "journal.db"

    @property
    def ledger_mark(self) -> Path:
        """What was signed last, to notice a database that is older."""
        return self.state / "ledger.mark"

    @property
    def broker(self) -> Path:
        return self.state / "nats"

    @property
    def address(self) -> Path:
        """Where the running hub listens: a file for the command line and scripts to read."""
        return self.state / "hub-address.json"

    @property
    def fleet(self) -> Path:
        """Which agents get no work, and why: a file that the running hub writes for the command line to read."""
        return self.state / "fleet.json"


def read(**given: object) -> Settings:
    """The settings; what is given and not None goes before the environment. Raises Misconfigured naming each wrong one."""
    return base.read(Settings, given)

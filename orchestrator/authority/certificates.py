"""The certificates of the hub's own servers and of its own connection: made by its authority, as files that others read too."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from orchestrator.authority import authority as authorities
from orchestrator.authority.authority import Authority
from sync.bus.nats import Login
from sync.crypto import authority
from sync.kit import files
from sync.kit.clock import Clock

HUB, SERVER, TRUSTED = "hub.pem", "server.pem", "trusted.pem"


class Certificates:
    """`hosts`: by which names and addresses agents know this hub. `folder` holds the files, all private."""

    def __init__(self, folder: Path, path: Path, at_rest: bytes, hosts: Sequence[str], clock: Clock) -> None:
        self._folder = files.make_private_folder(folder)
        self._path = path
        self._at_rest = at_rest
        self._hosts = sorted(set(hosts))
        self._clock = clock
        self.authority: Authority = authorities.load_or_create(path, at_rest, clock.wall())
        self._seen = path.stat().st_mtime_ns
        self._write()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self.tls.load_cert_chain(self.server)

    @property
    def server(self) -> Path:
        return self._folder / SERVER

    @property
    def trusted(self) -> Path:
        return self._folder / TRUSTED

    def login(self, url: str) -> Login:
        """As whom the hub logs in at a broker."""
        return login(self._folder, url)

    def keep_fresh(self) -> bool:
        """Makes new ones where half their time is over, or the authority was rotated; whether it did."""
        now, rotated = self._clock.wall(), self._path.stat().st_mtime_ns != self._seen
        issued, expires = authority.certificate_times(self.server.read_bytes())
        if rotated:
            self._seen = self._path.stat().st_mtime_ns
            self.authority = authorities.load(self._path, self._at_rest)
        if self.authority.issuer_expires - now < authorities.EARLY_S and self.authority.wrapper == authorities.ByHub.name:
            self.authority = self.authority.rotate_issuer(now, None)
            self._seen, rotated = self._path.stat().st_mtime_ns, True
        if not rotated and now < (issued + expires) / 2:
            return False
        self._write()
        self.tls.load_cert_chain(self.server)
        return True

    def _write(self) -> None:
        now = self._clock.wall()
        files.write_atomically(self.trusted, self.authority.trusted)
        files.write_atomically(self.server, self.authority.certify_server(self._hosts, now), mode=files.PRIVATE)
        files.write_atomically(self._folder / HUB, self.authority.certify_client(now), mode=files.PRIVATE)


def login(folder: Path, url: str) -> Login:
    """As whom the hub of this folder logs in at a broker."""
    return Login(url, "hub", folder / HUB, folder / TRUSTED)

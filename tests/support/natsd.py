"""A real nats-server on a free port, with an authority of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

from orchestrator.authority.certificates import Certificates
from orchestrator.broker import process as broker_process
from orchestrator.fleet.admission import Admitted
from sync.bus.nats import Login
from sync.kit.clock import SystemClock

READY_S = 15.0


class NatsServer:
    """One server process; its store outlives a stop."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.certificates = Certificates(folder / "tls", folder / "authority.json", bytes(32), ["127.0.0.1"], SystemClock())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def login(self) -> Login:
        """As a hub."""
        return self.certificates.login(f"tls://127.0.0.1:{self.port}")

    def write(self, agents: list[Admitted]) -> None:
        at = broker_process.Reachable("127.0.0.1", self.port, self.certificates.server, self.certificates.trusted)
        (self._folder / "nats.conf").write_text(broker_process.configuration(at, self._folder / "js", agents))

    def start(self) -> None:
        if not (self._folder / "nats.conf").exists():
            self.write([])
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [broker_process.executable(), "-c", str(self._folder / "nats.conf")], stdout=output, stderr=output
            )
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
        raise AssertionError("nats-server did not start")

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(10)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

"""A real nats-server on a free port."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

from orchestrator import broker
from sync.bus.nats import Login

PASSWORD = "test"
READY_S = 15.0


class NatsServer:
    """One server process; its store outlives a stop."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def login(self) -> Login:
        return Login(f"nats://127.0.0.1:{self.port}", broker.HUB_USER, PASSWORD)

    def start(self) -> None:
        text = broker.configuration(broker.Reachable("127.0.0.1", self.port), self._folder / "js", PASSWORD, [])
        path = self._folder / "nats.conf"
        path.write_text(json.dumps(json.loads(text)))
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen([broker.executable(), "-c", str(path)], stdout=output, stderr=output)
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
        raise AssertionError("nats-server did not start")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(10)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

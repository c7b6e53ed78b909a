"""A nats-server as it comes: without TLS, without rights. What our figures over the broker are held against."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

from orchestrator.broker import process as broker_process
from tests.support import running as support
from tests.support import system


class PlainServer:
    """One process, with JetStream that syncs each write, as ours does."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.port = system.free_port()
        self.url = f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        told = {
            "host": "127.0.0.1",
            "port": self.port,
            "jetstream": {"store_dir": str(self._folder / "js"), "sync_interval": "always"},
        }
        path = self._folder / "plain.conf"
        path.write_text(json.dumps(told))
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen([broker_process.executable(), "-c", path], stdout=output, stderr=output)
        support.eventually(self._answers, "the plain nats-server runs")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

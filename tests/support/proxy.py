"""A TCP proxy before a broker: a line that can be cut, go dark, be slow, and say things twice."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable

from tests.support import interception

_PUBLISH = re.compile(rb"(H?PUB) ([^\r\n]*)\r\n")
CHUNK = 65_536


class Proxy:
    """Listens on a free port of loopback, and passes on to one target. Each connection has two threads of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._up = True
        self._flows = threading.Event()
        self._flows.set()
        self.delay_s = 0.0
        self.twice = b""
        """Publishes on subjects that begin with this go out twice."""
        self._keys: interception.Keys | None = None
        self.repeated = 0
        self.connections = 0
        self.passed = 0
        """Bytes that went out to the target."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Closes every connection, and refuses new ones."""
        self._up = False
        with self._lock:
            for one in list(self._open):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._up = True

    def go_dark(self) -> None:
        """Connections stay, and nothing comes through."""
        self._flows.clear()

    def light_up(self) -> None:
        self._flows.set()

    def close(self) -> None:
        self.cut()
        self._flows.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._up:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self.connections += 1
            if self._keys is not None:
                server.close()
                threading.Thread(
                    target=interception.run, args=(client, self._target, self._keys, self._repeat()), daemon=True
                ).start()
                continue
            with self._lock:
                self._open |= {client, server}
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, out: bool) -> None:
        try:
            while data := source.recv(CHUNK):
                self._flows.wait()
                if self.delay_s:
                    time.sleep(self.delay_s)
                if out:
                    self.passed += len(data)
                target.sendall(data)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open -= {source, target}
            for one in (source, target):
                with contextlib.suppress(OSError):
                    one.close()

    def intercept(self, keys: interception.Keys) -> None:
        """From the next connection on, sees what is said: only then can it say things twice."""
        self._keys = keys
        self.cut()
        self.mend()

    def _repeat(self) -> Callable[[bytes], bytes]:
        waiting = b""

        def change(data: bytes) -> bytes:
            nonlocal waiting
            if not self.twice:
                return data
            changed, waiting = self._doubled(waiting + data)
            return changed

        return change

    def _doubled(self, data: bytes) -> tuple[bytes, bytes]:
        """What goes out of these bytes of the client's protocol, whole publishes twice; and what is not whole yet."""
        out, at = b"", 0
        while found := _PUBLISH.search(data, at):
            size = int(found[2].split(b" ")[-1])
            end = found.end() + size + 2
            if end > len(data):
                return out + data[at : found.start()], data[found.start() :]
            out += data[at:end]
            if found[2].startswith(self.twice):
                out += data[found.start() : end]
                self.repeated += 1
            at = end
        return out + data[at:], b""

"""An OpenAI-compatible server whose answer is as long as any may be, and comes as fast as it is read."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECES, PIECE_BYTES = 7_000, 1_000
"""Together below what a whole stream may have (`replies.MAX_ANSWER`): the answer ends by itself."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        piece = json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * PIECE_BYTES}}]})
        try:
            for _ in range(PIECES):
                self.wfile.write(f"data: {piece}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            pass  # the agent has left, as its own client did

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Flood:
    """The server, on a free port of loopback, with a thread for each request."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def manifest(self) -> dict[str, object]:
        """What a model's manifest says of it."""
        return {"backend": "upstream", "upstream": {"url": f"http://127.0.0.1:{self.port}/v1"}}

    @property
    def egress(self) -> str:
        """The agent's setting that lets it out to here."""
        return json.dumps([f"127.0.0.1:{self.port}@127.0.0.0/8"])

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

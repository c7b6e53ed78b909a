"""The configuration of a leaf node: a nats-server at the site to which its agents talk, and it alone to the hub's broker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from edge_agent.identity import Identity
from sync.kit import errors

MAX_PAYLOAD = 8 * 1024 * 1024
"""Bytes: the same as at the hub's broker, whose frames must pass."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """`hub`: where the hub's broker takes leaf nodes, as tls://HOST:7422; `ca`: whose certificate it must have."""

    hub: str
    host: str
    port: int
    ca: Path | None = None


def configuration(at: Leaf, me: Identity) -> str:
    """nats-server's configuration. The leaf logs in as the agent, so that no more than the agent's own subjects cross the line."""
    parts = urlsplit(at.hub)
    if parts.scheme not in ("nats", "tls") or not parts.hostname or not parts.port:
        raise errors.Misconfigured(
            f"'{at.hub}' is no address of a broker's leaf port: write tls://HOST:7422, as RINGFENCE_NATS_LEAF_PORT has it.",
            code="bad_leaf_url",
        )
    if parts.scheme == "tls" and at.ca is None:
        raise errors.Misconfigured("A line by TLS needs --ca: the file of the authority that the hub's broker is of.", code="no_ca")
    login = f"{quote(me.id)}:{quote(me.admission.broker_password, safe='')}"
    remote: dict[str, object] = {"url": f"{parts.scheme}://{login}@{parts.hostname}:{parts.port}"}
    if at.ca is not None:
        remote["tls"] = {"ca_file": str(at.ca.absolute()), "min_version": "1.3"}
    return json.dumps(
        {
            "host": at.host,
            "port": at.port,
            "server_name": f"leaf-{me.id}",
            "max_payload": MAX_PAYLOAD,
            "write_deadline": "10s",
            "ping_interval": "10s",
            "authorization": {"users": [{"user": me.id, "password": me.admission.broker_password}]},
            "leafnodes": {"reconnect": "1s", "remotes": [remote]},
        },
        indent=1,
    )

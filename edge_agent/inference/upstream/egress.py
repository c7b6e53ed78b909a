"""Where this agent may send prompts: a list of hosts and ports, held against the addresses that the names really resolve to.

A rule is `host:port`, or `host:port@network`. Without a network the host's addresses must be public ones, so that a name that
is made to point into the site (DNS rebinding) or to a cloud's metadata service is refused; with one they must lie in it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from sync.kit import errors

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class EgressRefused(errors.Misconfigured):
    """The agent's settings do not let requests go there."""

    code = "egress_refused"


@dataclass(frozen=True, slots=True)
class Rule:
    """One place that requests may go to."""

    host: str
    port: int
    network: Network | None

    def admits(self, address: Address) -> bool:
        """Whether the host may have this address."""
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:
            address = mapped
        if self.network is not None:
            return address in self.network
        return address.is_global and not address.is_multicast


class Egress(AbstractResolver):
    """The list; as a resolver, it lets nothing else be resolved. What resolves is what is connected to: there is no second
    look-up."""

    def __init__(self, rules: Iterable[str]) -> None:
        self._rules = [_rule(text) for text in rules]
        self._resolver: ThreadedResolver | None = None

    def check(self, url: str) -> None:
        """Returns where the URL's host and port are on the list, and its address too where it is one. Raises EgressRefused."""
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
        rule = self._find(host, port)
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return
        if not rule.admits(address):
            raise _not_admitted(host, port, [str(address)])

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """As aiohttp asks. Raises EgressRefused where none of the host's addresses may be connected to."""
        rule = self._find(host.lower(), port)
        if self._resolver is None:
            self._resolver = ThreadedResolver()
        found = await self._resolver.resolve(host, port, family)
        admitted = [result for result in found if rule.admits(ipaddress.ip_address(result["host"].partition("%")[0]))]
        if not admitted:
            raise _not_admitted(host, port, [result["host"] for result in found])
        return admitted

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()

    def _find(self, host: str, port: int) -> Rule:
        for rule in self._rules:
            if (rule.host, rule.port) == (host, port):
                return rule
        raise EgressRefused(
            f"Requests to {host[:200]}:{port} are not allowed: put '{host[:200]}:{port}' into RINGFENCE_AGENT_EGRESS to allow them."
        )


def _rule(text: str) -> Rule:
    place, _, network = text.strip().partition("@")
    host, _, port = place.rpartition(":")
    try:
        return Rule(host.strip("[]").lower(), int(port), ipaddress.ip_network(network) if network else None)
    except ValueError as error:
        raise errors.Misconfigured(
            f"RINGFENCE_AGENT_EGRESS: '{text[:200]}' is no rule: write host:port, or host:port@network such as "
            f"llm.corp:8000@10.0.0.0/8.",
            code="bad_setting",
        ) from error


def _not_admitted(host: str, port: int, addresses: list[str]) -> EgressRefused:
    return EgressRefused(
        f"{host[:200]}:{port} has the address {', '.join(addresses)[:200]}, which its rule in RINGFENCE_AGENT_EGRESS does not "
        f"admit: "
        "an address inside the site needs its network in the rule, as host:port@network."
    )

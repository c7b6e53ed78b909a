"""The inside of a network: addresses and host names."""

from __future__ import annotations

import ipaddress

from classifiers.recognizers.rule import WORD, Rule


def _address(text: bytes, start: int, end: int) -> int | None:
    raw = text[start:end].decode("ascii")
    try:
        address = ipaddress.ip_address(raw)
    except ValueError:
        return None
    return None if address.is_unspecified else end


RULES = (
    Rule(
        "network.ipv4", "IP_ADDRESS", "network", r"(?:\d{1,3}\.){3}\d{1,3}", 0.9,
        matches=("host 10.20.30.40 is slow", "8.8.8.8"), misses=("version 1.2.3.4.5", "300.1.1.1", "0.0.0.0"),
        check=_address, edges=WORD + b".-",
    ),
    Rule(
        "network.ipv6", "IP_ADDRESS", "network", r"(?i)(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}", 0.9,
        matches=("fe80::1ff:fe23:4567:890a", "2001:db8:85a3:0:0:8a2e:370:7334"), misses=("at 12:30:45", "std::vector", "a :: b", "::"),
        check=_address, edges=WORD + b":.",
    ),
    Rule(
        "network.internal_host", "INTERNAL_HOST", "network",
        r"(?i)[a-z0-9](?:[a-z0-9\-]{0,62})?(?:\.[a-z0-9\-]{1,63}){0,5}\.(?:internal|corp|intranet|lan|local)", 0.8,
        matches=("https://wiki.corp/page", "db01.prod.internal"), misses=("the internal report", "a local shop", "example.com"),
        edges=WORD + b"-",
    ),
)  # fmt: skip

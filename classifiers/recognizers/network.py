"""The inside of a network, and addresses on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifiers.recognizers.rule import WORD, Rule

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address


def _private(text: bytes, start: int, end: int) -> int | None:
    address = _parsed(text, start, end)
    return end if address is not None and address.is_private and not address.is_unspecified and not address.is_loopback else None


def _public(text: bytes, start: int, end: int) -> int | None:
    address = _parsed(text, start, end)
    return end if address is not None and not address.is_private and not address.is_unspecified else None


def _unreserved(text: bytes, start: int, end: int) -> int | None:
    return None if text.startswith((b"0.", b"127.", b"255."), start) else end


def _parsed(text: bytes, start: int, end: int) -> IPv4Address | IPv6Address | None:
    import ipaddress  # noqa: PLC0415 - for IPv6 alone, which few texts have

    try:
        return ipaddress.ip_address(text[start:end].decode("ascii"))
    except ValueError:
        return None


_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_PRIVATE = (
    rf"(?:10\.{_OCTET}|192\.168|172\.(?:1[6-9]|2\d|3[01])|169\.254|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\.{_OCTET}\.{_OCTET}"
)
_IPV6 = r"(?i:(?:[0-9a-f]{1,4}:|:(?::|[0-9a-f]{1,4}:)){1,7}(?::[0-9a-f]{1,4}|[0-9a-f]{1,4}|:){1,2})"
_TLD = "com|org|net|edu|gov|mil|io|co|ai|dev|app|info|biz|eu|de|uk|fr|es|it|nl|be|ch|at|pl|se|no|dk|fi|ie|pt|cz|us|ca|au|nz|in|jp|cn|br|mx|za|kr|sg|ru|tr|gr|hu|ro|me|tv|xyz|online|site|shop|cloud|test|example"
RULES = (
    Rule(
        "network.ipv4", "IP_ADDRESS", "network", _PRIVATE, 0.9, matches=("host 10.20.30.40 is slow", "192.168.1.17"),
        misses=("version 1.2.3.4.5", "10.300.1.1", "0.0.0.0", "8.8.8.8", "127.0.0.1"), edges=WORD + b".-",
    ),
    Rule(
        "network.ipv4_public", "IP_ADDRESS", "pii", _IPV4, 0.85, matches=("login from 93.184.216.34", "8.8.8.8"), misses=("version 1.2.3.4.5", "127.0.0.1", "0.0.0.0", "300.1.1.1"),
        check=_unreserved, edges=WORD + b".-",
    ),
    Rule("network.loopback", "IP_ADDRESS", "quasi_identifier", rf"127\.{_OCTET}\.{_OCTET}\.{_OCTET}", 0.8, matches=("127.0.0.1",), misses=("10.20.30.40",), edges=WORD + b".-"),
    Rule(
        "network.ipv6", "IP_ADDRESS", "network", _IPV6, 0.9, matches=("fe80::1ff:fe23:4567:890a", "fd00:85a3:0:0:0:8a2e:370:7334"), misses=("at 12:30:45", "std::vector", "a :: b", "::"),
        check=_private, edges=WORD + b":.",
    ),
    Rule(
        "network.ipv6_public", "IP_ADDRESS", "pii", _IPV6, 0.85, matches=("2a00:1450:4001:81b::200e",), misses=("at 12:30:45", "std::vector"),
        check=_public, edges=WORD + b":.",
    ),
    Rule(
        "network.mac", "MAC_ADDRESS", "network", r"(?i:[0-9a-f]{2}(?:[:\-][0-9a-f]{2}){5}|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2})", 0.9,
        matches=("b9:b5:e6:b3:fb:ac", "00-1A-2B-3C-4D-5E"), misses=("00:00:00:00:00:00", "12:30:45", "ff:ff:ff:ff:ff:ff", "4111.1111.1111"), edges=WORD + b":-.",
        check=lambda text, start, end: end if len(set(text[start:end]) - set(b":-.")) > 2 else None,
    ),
    Rule(
        "network.internal_host", "INTERNAL_HOST", "network", r"(?i:[a-z0-9](?:[a-z0-9\-]{0,62})?(?:\.[a-z0-9\-]{1,63}){0,5}\.(?:internal|corp|intranet|intra|lan|local|localdomain|svc\.cluster\.local))", 0.8,
        matches=("https://wiki.corp/page", "db01.prod.internal"), misses=("the internal report", "a local shop", "example.com"), edges=WORD + b"-", trigger=r"(?i:\.(?:internal|corp|intra|lan|local))",
    ),
    Rule(
        "network.host_name", "INTERNAL_HOST", "network", r"(?i:(?:srv|db|web|app|mail|vpn|dc|nas|esx|k8s|build|ci|pg|sql|redis|kafka|jump|bastion|host|node|prod|stg|dev)(?:[\-][a-z0-9]{1,12}){1,5}|(?:srv|db|web|app|dc|nas|esx|vm)\d{2,4})", 0.7,
        matches=("ssh to srv-prod-12", "db01 is down"), misses=("web-based", "app-store", "dev-ops", "dc comics"), edges=WORD + b"-.",
        check=lambda text, start, end: end if any(48 <= c <= 57 for c in text[start:end]) else None,
    ),
    Rule(
        "network.url", "URL", "quasi_identifier", rf"(?i:https?://[^\s<>\"'\)\]]+|www\.[a-z0-9\-]+(?:\.[a-z0-9\-]+)+(?:/[^\s<>\"'\)\]]*)?|[a-z0-9][a-z0-9\-]*(?:\.[a-z0-9\-]+)*\.(?:{_TLD})(?:/[^\s<>\"'\)\]]*)?)", 0.6,
        matches=("see https://example.com/a?b=c", "visit www.example.org", "shop at bigstore.co.uk"), misses=("end.Start here", "file.py", "no url"), edges=WORD + b"@-",
        check=lambda text, start, end: end - (text[end - 1 : end] in (b".", b",", b"!", b"?", b";", b":")), trigger=rf"(?i:https?://|www\.|\.(?:{_TLD}))",
    ),
    Rule(
        "network.unc_path", "INTERNAL_PATH", "network", r"\\\\[A-Za-z0-9._\-]{2,63}\\[A-Za-z0-9$._\- ]{1,80}", 0.8, matches=("\\\\filesrv\\finance$",), misses=("C:\\temp",), trigger=r"\\\\[A-Za-z]",
    ),
    Rule(
        "network.signed_url", "SIGNED_URL", "credential", r"https?://[^\s\"'<>]{4,500}[?&](?:X-Amz-Signature|sig|Signature|X-Goog-Signature)=[A-Za-z0-9%+/=_\-]{16,}", 0.95,
        matches=("https://b.s3.amazonaws.com/x?X-Amz-Date=1&X-Amz-Signature=0123456789abcdef0123456789abcdef",), misses=("https://example.com/?sig=short",), trigger=r"(?:Signature|sig)=",
    ),
    Rule(
        "network.cookie", "HTTP_COOKIE", "credential", r"(?i:(?:set-)?cookie:\s?[^\n]{0,200}(?:sess|sid|token|auth)[a-z_\-]{0,20}=[A-Za-z0-9%._\-+/=]{16,})", 0.9,
        matches=("Cookie: sessionid=38afes7a8fj29fj20fk2j3f",), misses=("I like a cookie: chocolate",), trigger="(?i:cookie:)",
    ),
)  # fmt: skip

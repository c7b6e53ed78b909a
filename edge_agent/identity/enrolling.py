"""ringfence-agent enrol: from the pasted line to an admitted agent.

The hub is known by the pin in the token: its root certificate is fetched and compared before the token's secret is said, on a
line by TLS to a server of that root. A hub that is not the one of the token never sees the secret.
"""

from __future__ import annotations

import json
import ssl
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp

from sync.crypto import authority, digest
from sync.kit import errors
from sync.wire import enrolment
from sync.wire.invitation import Token

TIMEOUT_S = 20.0
MAX_ANSWER = 128 * 1024
SKEW_S = 300.0
"""A certificate counts from so long before its making: a clock further behind would refuse it."""


class WrongHub(errors.Misconfigured):
    """What answers there is not the hub that the token is of."""

    code = "wrong_hub"


def check_url(url: str) -> str:
    """The address of a hub's entrance. Raises Misconfigured."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise errors.Misconfigured(
            f"'{url}' is no address of a hub: it is https://HOST:PORT, as 'ringfence agents invite' printed it.", code="bad_url"
        )
    return f"https://{parts.netloc}"


async def find(url: str, token: Token) -> bytes:
    """The root of the hub that the token is of, in PEM. Says nothing of the token. Raises Misconfigured."""
    roots = await _roots(url)
    try:
        for root in authority.split(roots):
            if digest.equal(authority.fingerprint(root), token.pin):
                return root
    except authority.BadCertificate as error:
        raise WrongHub(f"What answers at {url} is no hub of Ringfence: check the address.") from error
    raise WrongHub(
        f"The hub at {url} is not the one that the invitation is of: the token's secret was not sent. "
        "Check the address, and whether somebody stands in the line."
    )


async def enrol(url: str, roots: bytes, token: Token, request: enrolment.Request) -> bytes:
    """The hub's admission. Raises Refused with the hub's own sentence, or Misconfigured where it does not answer.

    Only a refusal says that the hub has kept nothing: after anything else the same keys must ask again.
    """
    body = json.dumps({"token": token.text, "request": enrolment.write_request(request).decode()}).encode()
    status, answer = await _call("POST", f"{url}/v1/enrol", _trusting(roots), body)
    if status >= 500:
        raise errors.Misconfigured(f"The hub cannot take it now: {_refusal(answer)} Paste the line again.", code="hub_busy")
    if status != 200:
        raise errors.Refused(_refusal(answer), code="enrolment_refused")
    return answer


async def renew(url: str, trusted: bytes, frame: bytes) -> bytes:
    """The hub's answer to a renewal's frame, by HTTPS. Raises Retryable or Misconfigured."""
    status, answer = await _call("POST", f"{url}/v1/enrol/renew", _trusting(trusted), frame)
    if status != 200:
        raise errors.Retryable(f"The hub did not take the renewal: {_refusal(answer)}", code="renewal_refused", retry_after_s=60)
    return answer


def _trusting(roots: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=roots.decode())
    return context


async def _roots(url: str) -> bytes:
    """What the server says its roots are: not believed yet. Nothing is sent but the question."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    status, answer = await _call("GET", f"{url}/v1/enrol/authority", context, None)
    if status != 200:
        raise WrongHub(f"What answers at {url} is no hub of Ringfence: check the address.")
    return answer


async def _call(method: str, url: str, context: ssl.SSLContext, body: bytes | None) -> tuple[int, bytes]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as http,
            http.request(method, url, ssl=context, data=body, allow_redirects=False) as response,
        ):
            _check_clock(response.headers.get("date", ""))
            answer = b""
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > MAX_ANSWER:
                    raise WrongHub(f"What answers at {_host(url)} says more than a hub would.")
            return response.status, answer
    except ssl.SSLCertVerificationError as error:
        raise _not_trusted(url, error) from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise _not_trusted(url, error) from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise errors.Misconfigured(
            f"Nothing answers at {_host(url)} ({type(error).__name__}): check the address, the firewall, and that the hub runs.",
            code="hub_unreachable",
        ) from error


def _host(url: str) -> str:
    return url.split("/v1/", maxsplit=1)[0]


def _not_trusted(url: str, error: Exception) -> WrongHub:
    return WrongHub(f"The server at {_host(url)} has no valid certificate of its hub for that name ({error}).")


def _check_clock(date: str) -> None:
    """Raises Misconfigured where this machine's clock is too far from the hub's for any certificate to count."""
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return
    if abs(skew) > SKEW_S:
        raise errors.Misconfigured(
            f"This machine's clock differs from the hub's by {skew:+.0f} s: set it (timedatectl set-ntp true), then try again.",
            code="clock_wrong",
        )


def _refusal(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "The hub refused it, without a reason that could be read."

"""What comes in beside the body, and the request's own id."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiohttp import web

from sync.serving.api.errors import BadRequest
from sync.wire.levels import Level

REQUEST_ID = web.RequestKey("request_id", str)
"""Where a request keeps its id, which is in every answer and in the audit log."""
BEARER = "bearer "
MAX_SUBJECT = 200
MAX_IGNORED = 1_000
"""Characters of `x-ringfence-ignored`: proxies take some 8 KiB of headers altogether."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def api_key(request: web.Request) -> str:
    """Return the key that the request carries, or an empty text. The one place that looks for it.

    Raises BadRequest for two: a gateway and a client that each add one mean different keys.
    """
    values = request.headers.getall("authorization", [])
    if len(values) > 1:
        raise BadRequest(
            "authorization: the request has several of them; send one.",
            param="authorization",
        )
    value = values[0] if values else ""
    return value[len(BEARER) :].strip() if value[: len(BEARER)].lower() == BEARER else ""


def trace(request: web.Request) -> str:
    """Return the caller's traceparent (W3C Trace Context), or an empty text without a valid one."""
    return valid_trace(request.headers.get("traceparent", ""))


def valid_trace(value: str) -> str:
    """Return a traceparent as it is, or an empty text where it is not one."""
    return value if _TRACEPARENT.fullmatch(value) else ""


def subject(request: web.Request) -> str:
    """Return whom the request is about, by the app's own id for that person.

    Raises BadRequest where it is too long.
    """
    values = request.headers.getall("x-ringfence-subject", [])
    if len(values) > 1:
        raise BadRequest("x-ringfence-subject: the request has several of them; send one.", param="x-ringfence-subject")
    value = values[0] if values else ""
    if not value.isprintable():
        # Bytes that are not UTF-8 come as lone surrogates, which nothing behind can write down.
        raise BadRequest("x-ringfence-subject: it is not printable text in UTF-8.", param="x-ringfence-subject")
    if len(value) > MAX_SUBJECT:
        raise BadRequest(
            f"x-ringfence-subject: at most {MAX_SUBJECT} characters are taken.",
            param="x-ringfence-subject",
        )
    return value


def declared_level(request: web.Request) -> Level:
    """Return the level that is declared; it can only raise. Raises BadRequest where it is not one.

    Several headers and lists count as the highest: a floor that a gateway adds, no app can undo.
    """
    values = request.headers.getall("x-ringfence-level", [])
    words = [word.strip() for value in values for word in value.split(",")]
    if not words:
        return Level.PUBLIC
    try:
        return max(Level.of(word) for word in [word for word in words if word] or words)
    except ValueError as error:
        raise BadRequest(
            f"x-ringfence-level: {error}.",
            param="x-ringfence-level",
            code="invalid_level",
        ) from error


def no_store(request: web.Request) -> bool:
    """Return whether the client wants its answer kept by nobody. Several headers count as one list."""
    return any("no-store" in value.lower() for value in request.headers.getall("cache-control", []))


def encoding(request: web.Request) -> str:
    """Return the body's content-encoding, or an empty text for none. `identity` is none."""
    values = ",".join(request.headers.getall("content-encoding", [])).split(",")
    words = [word.strip() for word in values]
    return ", ".join(word for word in words if word.lower() not in ("", "identity"))


def ignored(names: Sequence[str]) -> str:
    """Return the value of `x-ringfence-ignored`: as many whole names as MAX_IGNORED characters hold."""
    said = ", ".join(names)
    if len(said) <= MAX_IGNORED:
        return said
    return said[: said.rindex(", ", 0, MAX_IGNORED - 4)] + ", ..."

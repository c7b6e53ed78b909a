"""What comes in beside the body, and the request's own id."""

from __future__ import annotations

import re

from aiohttp import web

from sync.serving.api.errors import BadRequest
from sync.wire.levels import Level

REQUEST_ID = web.RequestKey("request_id", str)
"""Where a request keeps its id, which is in every answer and in the audit log."""
BEARER = "bearer "
MAX_SUBJECT = 200
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def api_key(request: web.Request) -> str:
    """The key that the request carries, or an empty text. The one place that looks for it."""
    value = request.headers.get("authorization", "")
    return value[len(BEARER) :].strip() if value[: len(BEARER)].lower() == BEARER else ""


def trace(request: web.Request) -> str:
    """The caller's traceparent (W3C Trace Context), or an empty text where it sent none or a malformed one."""
    value = request.headers.get("traceparent", "")
    return value if _TRACEPARENT.fullmatch(value) else ""


def subject(request: web.Request) -> str:
    """Whom the request is about, by the app's own id for that person. Raises BadRequest where it is too long."""
    value = request.headers.get("x-ringfence-subject", "")
    if len(value) > MAX_SUBJECT:
        raise BadRequest(f"x-ringfence-subject: at most {MAX_SUBJECT} characters are taken.", param="x-ringfence-subject")
    return value


def declared_level(request: web.Request) -> Level:
    """The level that the app declares; it can only raise. Raises BadRequest where it is none."""
    word = request.headers.get("x-ringfence-level")
    if word is None:
        return Level.PUBLIC
    try:
        return Level.of(word)
    except ValueError as error:
        raise BadRequest(f"x-ringfence-level: {error}.", param="x-ringfence-level", code="invalid_level") from error

"""Our errors as OpenAI's error object and an HTTP status.

The words of an error that is not ours never reach a client: they may hold anything.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus

from aiohttp import web

from sync.kit import errors
from sync.policy.decide import Reason
from sync.serving.api import codes

MAX_WAIT_S = 24 * 3600
"""Seconds of a `retry-after`: no client waits for longer, and an agent may say anything."""


class BadRequest(errors.Refused):
    """The body or a header is wrong; `param` names the field."""

    code = "invalid_request"

    def __init__(self, sentence: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(sentence, code=code)
        self.param = param


class TooLarge(errors.Refused):
    """The body is over its cap."""

    code = "request_too_large"


class TooSlow(errors.Refused):
    """The body did not come in time."""

    code = "request_timeout"


class UnsupportedEncoding(errors.Refused):
    """The body is compressed.

    What expands is not taken: a small body could become a very large one.
    """

    code = "unsupported_encoding"


class NotFound(errors.Refused):
    """There is nothing at this path."""

    code = "not_found"


class NotAllowed(errors.Refused):
    """The path takes another method; the field `allow` names those that it takes."""

    code = "method_not_allowed"


class BadHttp(errors.Refused):
    """What came is not a request of HTTP/1.1."""

    code = "invalid_http"


class HeadersTooLarge(errors.Refused):
    """The request line or a header is longer than is taken, or there are too many headers."""

    code = "headers_too_large"


def body_of(error: Exception, request_id: str) -> dict[str, object]:
    """Return OpenAI's error object, with the request id."""
    told = ours(error)
    inner: dict[str, object] = {
        "message": str(told),
        "type": codes.type_of(codes.status_of(told)),
        "param": getattr(told, "param", None),
        "code": told.code,
        "request_id": request_id,
    }
    reasons = told.fields.get("reasons")
    if isinstance(reasons, tuple):
        inner["reasons"] = [{"rule": reason.rule, "why": reason.why} for reason in reasons if isinstance(reason, Reason)]
    return {"error": inner}


def response_of(error: Exception, request_id: str) -> web.Response:
    """Return the whole answer, with `retry-after` where trying again makes sense."""
    told = ours(error)
    known = [name for name in ("level", "decision", "classifier") if name in told.fields]
    headers = {f"x-ringfence-{name}": str(told.fields[name]) for name in known}
    if allow := told.fields.get("allow"):
        headers["allow"] = str(allow)
    wait = getattr(told, "retry_after_s", 0.0)
    # An agent says how long: NaN and what is below 0 say nothing, and infinity is not a number of
    # seconds.
    if wait > 0 and _may_help_later(codes.status_of(told)):
        headers["retry-after"] = str(max(1, math.ceil(min(wait, MAX_WAIT_S))))
    return web.Response(
        status=codes.status_of(told),
        body=json.dumps(body_of(told, request_id), ensure_ascii=False, allow_nan=False).encode(
            "utf-8",
            "replace",
        ),
        content_type="application/json",
        headers=headers,
    )


def _may_help_later(status: int) -> bool:
    """Return whether the same request can be answered at another time."""
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def ours(error: Exception) -> errors.RingfenceError:
    """Return the error itself, or one without its words where it is not ours."""
    if isinstance(error, errors.RingfenceError):
        return error
    return errors.RingfenceError("Something went wrong inside; the request id finds it in the log.")


def of_aiohttp(error: web.HTTPException, path: str = "") -> errors.RingfenceError | None:
    """Return aiohttp's own refusal in our words; None for what is not an error.

    `path`: what was asked for.
    """
    if error.status < HTTPStatus.BAD_REQUEST:
        return None
    match error:
        case web.HTTPRequestEntityTooLarge():
            return TooLarge("The request body is larger than is taken here.")
        case web.HTTPNotFound():
            return NotFound(
                f"There is nothing at {path[:100]!r}. A client's base URL ends in /v1.",
            )
        case web.HTTPMethodNotAllowed():
            allow = ", ".join(sorted(error.allowed_methods))
            return NotAllowed(
                f"{error.method[:20]} is not taken at {path[:100]!r}: use {allow}.",
                allow=allow,
            )
        case web.HTTPExpectationFailed():
            return BadRequest("expect: 100-continue alone is taken.", param="expect")
    return BadRequest("The request is not one that is taken here.")

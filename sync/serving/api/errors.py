"""Our errors as OpenAI's error object and an HTTP status."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web

from sync.kit import errors
from sync.policy.authenticate import InvalidKey
from sync.policy.authorize import Forbidden, UnknownModel
from sync.policy.decide import PolicyDenied, Reason
from sync.serving.limits import LimitReached


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


StatusTable = Sequence[tuple[type[Exception], int]]
_SHARED: StatusTable = (
    (InvalidKey, 401), (PolicyDenied, 403), (Forbidden, 403), (UnknownModel, 404), (TooSlow, 408), (TooLarge, 413),
    (LimitReached, 429), (errors.Retryable, 503),
    (errors.Refused, 400), (errors.Misconfigured, 400),
)  # fmt: skip
BY_CODE = {
    "overloaded": 503, "bad_payload": 400, "context_length_exceeded": 400, "audit_unavailable": 503, "deadline_exceeded": 504,
    "schema_unsatisfiable": 400, "bad_schema": 400, "policy_denied": 403, "model_failed": 502, "model_crashed": 502,
    "upstream_failed": 502, "model_unusable": 503, "cancelled": 503, "model_not_here": 404, "rate_limit_exceeded": 429,
    "no_eligible_agent": 503, "broker_unavailable": 503, "invalid_api_key": 401, "model_not_found": 404, "model_not_allowed": 403,
    "forbidden": 403, "model_task_mismatch": 400, "agent_lost": 502, "ticket_refused": 403,
}  # fmt: skip
_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 408: "invalid_request_error", 413: "invalid_request_error", 429: "rate_limit_error",
}  # fmt: skip


class Responses:
    """Answers for errors; `own` has the statuses of the errors that only this side knows, and goes before the shared ones."""

    def __init__(self, own: StatusTable = (), *, by_code: dict[type[Exception], int] | None = None) -> None:
        self._table = (*own, *_SHARED)
        self._coded = by_code or {}

    def status_of(self, error: Exception) -> int:
        """The HTTP status. Errors that an agent told go by their code."""
        for kind, otherwise in self._coded.items():
            if isinstance(error, kind) and isinstance(error, errors.RingfenceError):
                return BY_CODE.get(error.code, otherwise)
        return next((status for kind, status in self._table if isinstance(error, kind)), 500)

    def body_of(self, error: Exception, request_id: str) -> dict[str, object]:
        """OpenAI's error object, with the request id. An error that is not ours is not told: it may hold anything."""
        if not isinstance(error, errors.RingfenceError):
            error = errors.RingfenceError("Something went wrong inside; the request id finds it in the log.")
        inner: dict[str, object] = {
            "message": str(error),
            "type": _TYPES.get(self.status_of(error), "server_error"),
            "param": getattr(error, "param", None),
            "code": error.code,
            "request_id": request_id,
        }
        reasons = error.fields.get("reasons")
        if isinstance(reasons, tuple):
            inner["reasons"] = [{"rule": r.rule, "why": r.why} for r in reasons if isinstance(r, Reason)]
        return {"error": inner}

    def response_of(self, error: Exception, request_id: str) -> web.Response:
        """The whole answer, with `retry-after` where trying again makes sense."""
        told = error.fields if isinstance(error, errors.RingfenceError) else {}
        headers = {f"x-ringfence-{name}": str(told[name]) for name in ("level", "decision") if name in told}
        wait = getattr(error, "retry_after_s", 0)
        if wait:
            headers["retry-after"] = str(max(1, math.ceil(wait)))
        return web.Response(
            status=self.status_of(error),
            body=json.dumps(self.body_of(error, request_id), ensure_ascii=False).encode(),
            content_type="application/json",
            headers=headers,
        )


def of_aiohttp(error: web.HTTPException) -> errors.RingfenceError | None:
    """aiohttp's own refusals in our words; None for what is no error."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge("The request body is larger than is taken here.")
    if error.status < HTTPStatus.BAD_REQUEST:
        return None
    refused = errors.Refused(f"{error.reason}: docs/api.md lists what there is.", code="not_found")
    refused.code = {404: "not_found", 405: "method_not_allowed"}.get(error.status, "invalid_request")
    return refused

"""The one table of error codes that a client can get: status, who may say it, meaning, remedy.

Invariants, each with a test of its words:
- the status of an error is its code's, or its family's where the code is not in the table;
- an agent never chooses a client's status: only what is marked as an agent's is taken from it;
- docs/api.md lists these codes and statuses, and no others.
"""

from __future__ import annotations

from dataclasses import dataclass

from sync.kit import errors

INTERNAL = "internal_error"
AGENT_FAILED = "agent_failed"
AGENT_REFUSED = "agent_refused"


@dataclass(frozen=True, slots=True)
class Code:
    """What one code says.

    `of_agent`: whether it is taken from an agent too; else hub and site alone say it.
    """

    status: int
    meaning: str
    remedy: str
    of_agent: bool = False


_MEND = "mend the request: the sentence names the field"
_AGAIN = "wait for `retry-after`, then try again"
_OPERATOR = "an operator has to look: the request id finds it in the log"

CODES: dict[str, Code] = {
    # The request is wrong.
    "invalid_json": Code(400, "the body is not JSON", _MEND),
    "invalid_request": Code(
        400,
        "a field or a header is missing, of another type or out of range",
        _MEND,
    ),
    "invalid_http": Code(
        400,
        "the bytes are not a request of HTTP/1.1",
        "look at what stands between the client and this API",
    ),
    "invalid_level": Code(400, "`x-ringfence-level` is not a level", "send one of the four levels"),
    "unsupported": Code(
        400,
        "a field would change the answer, and is not supported",
        "leave the field out",
    ),
    "refused": Code(400, "the request is refused; the sentence says why", _MEND),
    "max_tokens_exceeded": Code(400, "more tokens are asked for than the tenant may", "ask for fewer"),
    "model_task_mismatch": Code(400, "the model is for another task", "choose another model"),
    "not_redactable": Code(
        400,
        "without what was found, the request would not be one",
        "ask for something that needs less of it",
    ),
    "unknown_task": Code(400, "there is no such task", "choose another endpoint"),
    "context_length_exceeded": Code(
        400,
        "the prompt is longer than the model takes",
        "shorten the prompt",
        of_agent=True,
    ),
    "bad_payload": Code(400, "the model cannot do what is asked for", _MEND, of_agent=True),
    "bad_schema": Code(
        400,
        "the JSON schema is wrong",
        "mend the schema: the sentence says where",
        of_agent=True,
    ),
    "schema_unsatisfiable": Code(
        400,
        "no answer can meet the JSON schema",
        "mend the schema",
        of_agent=True,
    ),
    "bad_configuration": Code(
        400,
        "the configuration document is wrong",
        "mend the lines that the sentence names",
    ),
    # Who asks may not.
    "invalid_api_key": Code(
        401,
        "the key is missing, mistyped, unknown, revoked or expired",
        "ask your administrator for another key",
    ),
    "forbidden": Code(403, "the key may not do this", "use a key with the role admin"),
    "policy_denied": Code(403, "no place may process this", "see `reasons`"),
    "tenant_unknown": Code(403, "the tenant is not served there", "ask your administrator"),
    "ticket_refused": Code(
        403,
        "the site's own check refuses what was decided",
        "try again: the policy changed meanwhile",
    ),
    "ticket_expired": Code(
        403,
        "the decision is too old to run",
        "try again; if it stays, a clock is wrong",
    ),
    "outside_ticket": Code(
        403,
        "the decision does not admit this site",
        "try again: the policy changed meanwhile",
    ),
    "outside_policy": Code(
        403,
        "the site's policy does not admit this level here",
        "try again: the policy changed meanwhile",
    ),
    "token_refused": Code(403, "at the entrance: the invitation is unknown", "ask for a new one"),
    "token_expired": Code(403, "at the entrance: the invitation has expired", "ask for a new one"),
    "token_used": Code(403, "at the entrance: the invitation was used before", "ask for a new one"),
    "model_not_found": Code(
        404,
        "there is no model of this name that you may use",
        "see `GET /v1/models`",
    ),
    "model_not_here": Code(
        404,
        "the agent does not have the model",
        "see `GET /v1/models`",
        of_agent=True,
    ),
    "not_found": Code(404, "there is nothing at this path", "see the table of endpoints"),
    "method_not_allowed": Code(405, "the path takes another method", "see the header `allow`"),
    "request_timeout": Code(408, "the body took longer than 30 s", "send it faster"),
    "duplicate_request": Code(
        409, "a request with this id was taken already", "nothing: it is being served, or was", of_agent=True
    ),
    "request_too_large": Code(413, "the body is over 4 MiB", "send less"),
    "unsupported_encoding": Code(415, "the body has a `content-encoding`", "send it as it is"),
    "rate_limit_exceeded": Code(429, "the tenant has used what it may for now", _AGAIN),
    "headers_too_large": Code(
        431,
        "the request line or the headers are over 8 KiB, or over 128 of them",
        "send less",
    ),
    # It went wrong inside.
    INTERNAL: Code(500, "a mistake of Ringfence", _OPERATOR),
    "misconfigured": Code(500, "a setting or a file is wrong", _OPERATOR),
    "already_recorded": Code(500, "the request's record was written before", _OPERATOR),
    "agent_unknown": Code(503, "the site is not admitted by its hub", _OPERATOR),
    # Whoever had the request failed.
    "agent_lost": Code(502, "the agent went away and no other could take over", "try again"),
    AGENT_REFUSED: Code(
        502,
        "the agent refuses what the hub decided",
        "try again; if it stays, an operator has to look",
    ),
    AGENT_FAILED: Code(502, "the agent or the model's server failed in its own way", _OPERATOR),
    "bad_answer": Code(502, "the answer cannot be passed on", "try again", of_agent=True),
    "bad_frame": Code(502, "what came from the other side cannot be read", "try again"),
    "corrupt": Code(502, "what came from the other side is damaged", "try again"),
    "cannot_open": Code(502, "what came from the other side cannot be opened", "try again"),
    "bad_signature": Code(502, "what came from the other side has no valid signature", _OPERATOR),
    "answer_too_large": Code(502, "the answer is too large", "ask for less", of_agent=True),
    "slow_reader": Code(
        502,
        "the answer was not read fast enough",
        "read the stream faster",
        of_agent=True,
    ),
    "model_failed": Code(502, "the model failed", _OPERATOR, of_agent=True),
    "model_crashed": Code(502, "the model's process ended", "try again", of_agent=True),
    "model_stuck": Code(502, "the model does not go on", "try again", of_agent=True),
    "upstream_failed": Code(
        502,
        "the model's server did not answer, or not as it should",
        "try again",
        of_agent=True,
    ),
    "upstream_key_refused": Code(
        502,
        "the model's server does not take the agent's key",
        _OPERATOR,
        of_agent=True,
    ),
    "egress_refused": Code(
        502,
        "the agent may not connect to the model's server",
        _OPERATOR,
        of_agent=True,
    ),
    # Not now.
    "unavailable": Code(503, "it cannot be done now", _AGAIN),
    "cancelled": Code(503, "the work was cancelled", _AGAIN, of_agent=True),
    "interrupted": Code(
        503,
        "the process that had the request was restarted",
        _AGAIN,
        of_agent=True,
    ),
    "draining": Code(
        503,
        "the process is being stopped and takes no new request",
        _AGAIN,
        of_agent=True,
    ),
    "start_deadline": Code(503, "the request's work did not begin in time", _AGAIN, of_agent=True),
    "overloaded": Code(503, "too much waits already", _AGAIN, of_agent=True),
    "model_unusable": Code(
        503,
        "the model cannot be loaded there",
        "the agent's log says why",
        of_agent=True,
    ),
    "model_not_trusted": Code(
        503,
        "the model is not signed, and nobody has trusted it",
        _OPERATOR,
        of_agent=True,
    ),
    "no_eligible_agent": Code(
        503,
        "the admitted places have no agent up with the model; the request is not sent elsewhere",
        _AGAIN,
    ),
    "no_responder": Code(503, "nobody listens at the other end", _AGAIN),
    "broker_unavailable": Code(503, "the broker cannot be reached", _AGAIN),
    "audit_unavailable": Code(
        503,
        "the record cannot be written, so nothing is answered",
        _AGAIN,
        of_agent=True,
    ),
    "record_refused": Code(
        503,
        "the record of this request cannot be written, so it is not answered",
        _MEND,
        of_agent=True,
    ),
    "store_unavailable": Code(
        503,
        "the database cannot be used; answers go on, edits do not",
        _AGAIN,
    ),
    "enrolment_busy": Code(503, "at the enrolment entrance: too many enrolments at once", _AGAIN),
    "hub_lost": Code(503, "at a site: the hub stopped answering a forwarded request", _AGAIN),
    "offline_unavailable": Code(
        503,
        "at a site: it may or can run elsewhere only, and the line to the hub is down",
        "see `reasons`",
    ),
    "bundle_stale": Code(
        503,
        "at a site: the hub was not heard within the tenant's grace time",
        _AGAIN,
    ),
    "deadline_exceeded": Code(504, "it took longer than it may", "ask for less", of_agent=True),
}
_TICKETS = frozenset(
    {
        "tenant_unknown",
        "ticket_refused",
        "ticket_expired",
        "outside_ticket",
        "outside_policy",
        "agent_unknown",
        "bundle_stale",
    }
)
"""What an agent's own check of a ticket says: hub and agent disagree, and the client is right."""
_FAMILIES: tuple[tuple[type[errors.RingfenceError], int], ...] = (
    (errors.Refused, 400),
    (errors.Retryable, 503),
    (errors.Corrupt, 502),
    (errors.Misconfigured, 500),
)
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def of_agent(code: str) -> str:
    """Return the code that a client gets where an agent, or a model's server, says this one."""
    if code in _TICKETS:
        return AGENT_REFUSED
    known = CODES.get(code)
    return code if known is not None and known.of_agent else AGENT_FAILED


def of_hub(code: str) -> str:
    """Return the code that a site's client gets where the hub, or the site's runner, says this one."""
    return code if code in CODES else AGENT_FAILED


def label(code: str) -> str:
    """Return a code as a metric's label: one of the table, or `other`. A label is of a closed set."""
    return code if code in CODES else "other"


def status_of(error: Exception) -> int:
    """Return the HTTP status: its code's, else its family's.

    An exception that is not ours is a mistake inside: 500.
    """
    if not isinstance(error, errors.RingfenceError):
        return CODES[INTERNAL].status
    known = CODES.get(error.code)
    if known is not None:
        return known.status
    of_family = (status for kind, status in _FAMILIES if isinstance(error, kind))
    return next(of_family, CODES[INTERNAL].status)


def type_of(status: int) -> str:
    """Return OpenAI's error type of a status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")

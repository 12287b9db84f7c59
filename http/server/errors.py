"""Errors on the wire: from an error's kind to its status, headers and envelope, in one place."""

from datetime import datetime
from math import ceil
from typing import Literal

import msgspec

from callboard.actors.errors import (
    AUTH_TOKEN_EXPIRED,
    AUTH_TOKEN_INVALID,
    SERVER_OVERLOADED,
    SERVER_TIMEOUT,
    SERVER_UNAVAILABLE,
    ErrorCode,
    ErrorKind,
    FieldError,
    Problem,
)
from callboard.actors.identity.errors import AUTH_SESSION_ENDED
from callboard.runtime import ActorStoppedError, AskTimeoutError, MailboxFullError
from callboard.streams.event_types import UtcDatetime

RETRY_AFTER_S = 1.0  # the default of a 503

STATUS: dict[ErrorKind, int] = {
    ErrorKind.INVALID: 400,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.METHOD_NOT_ALLOWED: 405,
    ErrorKind.SLOW: 408,
    ErrorKind.CONFLICT: 409,
    ErrorKind.GONE: 410,
    ErrorKind.STALE: 412,
    ErrorKind.TOO_LARGE: 413,
    ErrorKind.TARGET_TOO_LONG: 414,
    ErrorKind.UNSUPPORTED: 415,
    ErrorKind.RANGE: 416,
    ErrorKind.EXPECTATION_FAILED: 417,
    ErrorKind.MISDIRECTED: 421,
    ErrorKind.PROTOCOL_UNSUPPORTED: 412,
    ErrorKind.REUSED: 422,
    ErrorKind.LOCKED: 423,
    ErrorKind.PRECONDITION_MISSING: 428,
    ErrorKind.LIMITED: 429,
    ErrorKind.HEADERS_TOO_LARGE: 431,
    ErrorKind.CHECKSUM_MISMATCH: 460,
    ErrorKind.BUG: 500,
    ErrorKind.NOT_IMPLEMENTED: 501,
    ErrorKind.UNAVAILABLE: 503,
    ErrorKind.VERSION_UNSUPPORTED: 505,
    ErrorKind.STORAGE_FULL: 507,
}

# Errors of the runtime, as responses: none of these is the client's fault.
FAULTS: tuple[tuple[type[Exception], ErrorCode], ...] = (
    (AskTimeoutError, SERVER_TIMEOUT),
    (MailboxFullError, SERVER_OVERLOADED),
    (ActorStoppedError, SERVER_UNAVAILABLE),
)

BAD_TOKEN = {AUTH_TOKEN_INVALID.name, AUTH_TOKEN_EXPIRED.name, AUTH_SESSION_ENDED.name}


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of an error response. `field` is the first invalid field, `details` lists all of them; `allowed`
    lists valid values.
    """

    code: str
    message: str
    field: str | None = None
    details: tuple[FieldError, ...] = ()
    allowed: tuple[str, ...] = ()
    timestamp: UtcDatetime
    trace_id: str


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """An error response, unless the client asks for RFC 9457."""

    status: Literal["error"]
    error: Failure


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error response in the form of RFC 9457, for `Accept: application/problem+json`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: tuple[FieldError, ...] = ()
    allowed: tuple[str, ...] = ()
    timestamp: UtcDatetime
    trace_id: str


def status_of(code: ErrorCode) -> int:
    """Return the HTTP status of a code."""
    return STATUS[code.kind]


def problem_of(error: Exception) -> Problem | None:
    """Return the response that an exception stands for; None if it is a bug of ours."""
    if isinstance(error, Problem):
        return error
    return next((Problem(code) for fault, code in FAULTS if isinstance(error, fault)), None)


def headers_of(problem: Problem) -> dict[str, str]:
    """Return the headers that a status requires."""
    kind = problem.code.kind
    if kind is ErrorKind.UNAUTHENTICATED:
        challenge = 'Bearer realm="callboard"'
        if problem.code.name in BAD_TOKEN:
            challenge += f', error="invalid_token", error_description="{problem.code.meaning}"'
        return {"WWW-Authenticate": challenge}
    if kind is ErrorKind.UNSUPPORTED:
        return {"Accept": ", ".join(problem.allowed) or "application/json", "Accept-Encoding": "identity"}
    if kind is ErrorKind.METHOD_NOT_ALLOWED:
        return {"Allow": ", ".join(problem.allowed)}
    if kind is ErrorKind.RANGE:
        return {"Content-Range": ", ".join(problem.allowed)}
    if kind in (ErrorKind.LIMITED, ErrorKind.UNAVAILABLE, ErrorKind.LOCKED) or problem.retry_after_s is not None:
        retry_after_s = RETRY_AFTER_S if problem.retry_after_s is None else problem.retry_after_s
        return {"Retry-After": str(max(1, ceil(retry_after_s)))}
    return {}


def encode_error(problem: Problem, *, now: datetime, trace_id: str, as_problem: bool) -> bytes:
    """Build the body of an error: the envelope, or the object of RFC 9457."""
    if as_problem:
        return msgspec.json.encode(
            ProblemDetails(
                type=f"/api/v1/errors#{problem.code.name}",
                title=problem.code.meaning,
                status=status_of(problem.code),
                detail=problem.message,
                code=problem.code.name,
                errors=problem.details,
                allowed=problem.allowed,
                timestamp=now,
                trace_id=trace_id,
            )
        )
    failure = Failure(
        code=problem.code.name,
        message=problem.message,
        field=problem.details[0].field if problem.details else None,
        details=problem.details,
        allowed=problem.allowed,
        timestamp=now,
        trace_id=trace_id,
    )
    return msgspec.json.encode(ErrorEnvelope("error", failure))


class CannotListenError(OSError):
    """The address is in use or not ours; the message says which."""

    def __str__(self) -> str:
        """Return the message alone: it explains the number."""
        return self.strerror or ""

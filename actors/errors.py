"""The shape of domain errors, and the codes of every request. Departments declare theirs in their `errors.py`.

The API's responses, its documents and its catalogue are made from what departments register.

A domain error is a `Problem`: a refusal that answers an ask and crashes nobody. HTTP maps statuses from `ErrorKind`
in one place, `callboard.http.server.errors`.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from callboard.runtime import Refusal


class ErrorKind(StrEnum):
    """The kind of a problem; each kind stands for one HTTP status."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MISDIRECTED = "misdirected"
    GONE = "gone"
    CONFLICT = "conflict"
    REUSED = "reused"
    STALE = "stale"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    PRECONDITION_MISSING = "precondition_missing"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"
    BUG = "bug"
    SLOW = "slow"
    TARGET_TOO_LONG = "target_too_long"
    HEADERS_TOO_LARGE = "headers_too_large"
    EXPECTATION_FAILED = "expectation_failed"
    NOT_IMPLEMENTED = "not_implemented"
    VERSION_UNSUPPORTED = "version_unsupported"
    STORAGE_FULL = "storage_full"
    LOCKED = "locked"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    PROTOCOL_UNSUPPORTED = "protocol_unsupported"
    RANGE = "range"


class ErrorCode(msgspec.Struct, frozen=True):
    """A stable error code, `{MODULE}_{TYPE}_{NNN}`, with what it means to a client."""

    name: str
    kind: ErrorKind
    meaning: str


def declared_in(namespace: Mapping[str, object]) -> tuple[ErrorCode, ...]:
    """Return the codes of a module's namespace, in their order."""
    return tuple(value for value in namespace.values() if isinstance(value, ErrorCode))


class FieldError(msgspec.Struct, frozen=True):
    """One invalid field, by its path (`title`, `tags[2].name`), and what is wrong with it."""

    field: str
    message: str


class Problem(Refusal):
    """A refusal with a stable code. `message` is for people and may be shown to anyone who sees the answer.

    `details` name every invalid field; `retry_after_s` says when to try again; `allowed` lists what
    would have been allowed (methods, transitions).
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str | None = None,
        *,
        details: tuple[FieldError, ...] = (),
        retry_after_s: float | None = None,
        allowed: tuple[str, ...] = (),
    ) -> None:
        self.code = code
        self.message = message or code.meaning
        self.details = details
        self.retry_after_s = retry_after_s
        self.allowed = allowed
        super().__init__(f"{code.name}: {self.message}")

    @property
    def passes(self) -> bool:
        """Whether the same may be asked again later: nothing is wrong with it."""
        return self.code.kind in (ErrorKind.UNAVAILABLE, ErrorKind.LIMITED)

    @property
    def timed_out(self) -> bool:
        """Whether the time was too short: less may fit into it."""
        return self.code is SERVER_TIMEOUT


class DegradedError(Exception):
    """A readiness check raises this, with the reason, when a server is up but does only a part of its work."""


AUTH_TOKEN_MISSING = ErrorCode(
    "AUTH_TOKEN_MISSING_002", ErrorKind.UNAUTHENTICATED, "This call needs a Bearer access token."
)
AUTH_TOKEN_INVALID = ErrorCode("AUTH_TOKEN_INVALID_003", ErrorKind.UNAUTHENTICATED, "The access token is invalid.")
AUTH_TOKEN_EXPIRED = ErrorCode("AUTH_TOKEN_EXPIRED_004", ErrorKind.UNAUTHENTICATED, "The access token has expired.")
AUTH_FORBIDDEN = ErrorCode("AUTH_FORBIDDEN_008", ErrorKind.FORBIDDEN, "Your role does not allow this.")

REQUEST_INVALID = ErrorCode("REQUEST_INVALID_001", ErrorKind.INVALID, "A field is missing, unknown or invalid.")
REQUEST_MALFORMED = ErrorCode("REQUEST_MALFORMED_002", ErrorKind.INVALID, "The body is not JSON.")
REQUEST_TOO_LARGE = ErrorCode(
    "REQUEST_TOO_LARGE_003", ErrorKind.TOO_LARGE, "The body is larger than this server accepts."
)
REQUEST_UNSUPPORTED = ErrorCode("REQUEST_UNSUPPORTED_004", ErrorKind.UNSUPPORTED, "Send the body as application/json.")
REQUEST_LIMITED = ErrorCode(
    "REQUEST_LIMITED_005", ErrorKind.LIMITED, "Too many requests; wait as long as Retry-After says."
)
REQUEST_CURSOR_INVALID = ErrorCode(
    "REQUEST_CURSOR_INVALID_006", ErrorKind.INVALID, "The cursor was not issued by this server."
)
REQUEST_SLOW = ErrorCode("REQUEST_SLOW_007", ErrorKind.SLOW, "The body did not arrive in time.")
REQUEST_NOT_HTTP = ErrorCode("REQUEST_NOT_HTTP_008", ErrorKind.INVALID, "The request is not well-formed HTTP/1.1.")

REQUEST_KEY_REUSED = ErrorCode(
    "REQUEST_KEY_REUSED_009", ErrorKind.REUSED, "The Idempotency-Key was used with another body; use a new key."
)
REQUEST_KEY_BUSY = ErrorCode(
    "REQUEST_KEY_BUSY_010",
    ErrorKind.CONFLICT,
    "A request with this Idempotency-Key is still in progress; repeat it later.",
)
REQUEST_TARGET_TOO_LONG = ErrorCode(
    "REQUEST_TARGET_TOO_LONG_011", ErrorKind.TARGET_TOO_LONG, "The request's target is longer than this server accepts."
)
REQUEST_HEADERS_TOO_LARGE = ErrorCode(
    "REQUEST_HEADERS_TOO_LARGE_012", ErrorKind.HEADERS_TOO_LARGE, "The request's headers are too large or too many."
)
REQUEST_CODING_UNKNOWN = ErrorCode(
    "REQUEST_CODING_UNKNOWN_013",
    ErrorKind.NOT_IMPLEMENTED,
    "This server supports no Transfer-Encoding except chunked.",
)
REQUEST_METHOD_UNKNOWN = ErrorCode(
    "REQUEST_METHOD_UNKNOWN_014", ErrorKind.NOT_IMPLEMENTED, "This server does not support the request's method."
)
REQUEST_VERSION = ErrorCode(
    "REQUEST_VERSION_015", ErrorKind.VERSION_UNSUPPORTED, "This server supports HTTP/1.1 and HTTP/1.0."
)
REQUEST_EXPECTATION = ErrorCode(
    "REQUEST_EXPECTATION_016",
    ErrorKind.EXPECTATION_FAILED,
    "This server supports no expectation except 100-continue.",
)
REQUEST_STALE = ErrorCode(
    "REQUEST_STALE_017",
    ErrorKind.STALE,
    "The resource does not meet the condition of If-Match or If-None-Match; read it again.",
)

REQUEST_HOST = ErrorCode(
    "REQUEST_HOST_018",
    ErrorKind.MISDIRECTED,
    "The Host header must be an IP address, localhost or a name in OPS_HOSTS.",
)

REQUEST_RANGE = ErrorCode(
    "REQUEST_RANGE_019", ErrorKind.RANGE, "The range has no byte of the resource; Content-Range gives its size."
)

ROUTE_NOT_FOUND = ErrorCode("ROUTE_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such route.")
ROUTE_METHOD = ErrorCode("ROUTE_METHOD_002", ErrorKind.METHOD_NOT_ALLOWED, "The route does not support this method.")

SERVER_UNAVAILABLE = ErrorCode(
    "SERVER_UNAVAILABLE_001", ErrorKind.UNAVAILABLE, "A server that this call needs is unavailable; try again."
)
SERVER_OVERLOADED = ErrorCode("SERVER_OVERLOADED_002", ErrorKind.UNAVAILABLE, "The server is overloaded; try again.")
SERVER_TIMEOUT = ErrorCode(
    "SERVER_TIMEOUT_003",
    ErrorKind.UNAVAILABLE,
    "The request timed out. It may have been executed: repeat it with the same Idempotency-Key.",
)
SERVER_DRAINING = ErrorCode("SERVER_DRAINING_004", ErrorKind.UNAVAILABLE, "The server is shutting down; try again.")
SERVER_BUG = ErrorCode("SERVER_BUG_005", ErrorKind.BUG, "An internal error occurred; report the trace id.")
SERVER_NOT_READY = ErrorCode(
    "SERVER_NOT_READY_006", ErrorKind.UNAVAILABLE, "This server cannot reach a server that it needs; see the details."
)
SERVER_MAINTENANCE = ErrorCode(
    "SERVER_MAINTENANCE_007", ErrorKind.UNAVAILABLE, "The server is in maintenance; try again later."
)

ERRORS = declared_in(globals())

"""The catalogue of domain errors, by stable code: the API's responses, its documents and its tests are made from it.

A domain error is a `Problem`: a refusal that answers an ask and crashes nobody. HTTP maps statuses from `ErrorKind`
in one place, `callboard.http.server.errors`.
"""

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


class ErrorCode(msgspec.Struct, frozen=True):
    """A stable error code, `{MODULE}_{TYPE}_{NNN}`, with what it means to a client."""

    name: str
    kind: ErrorKind
    meaning: str


CODES: dict[str, ErrorCode] = {}


def code(name: str, kind: ErrorKind, meaning: str) -> ErrorCode:
    """Enter a code into the catalogue. Raises ValueError for a name that is taken."""
    if name in CODES:
        raise ValueError(f"error code {name} is declared twice")
    CODES[name] = entry = ErrorCode(name, kind, meaning)
    return entry


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


AUTH_INVALID_CREDENTIALS = code(
    "AUTH_INVALID_CREDENTIALS_001", ErrorKind.UNAUTHENTICATED, "The e-mail address or the password is wrong."
)
AUTH_TOKEN_MISSING = code("AUTH_TOKEN_MISSING_002", ErrorKind.UNAUTHENTICATED, "This call needs a Bearer access token.")
AUTH_TOKEN_INVALID = code("AUTH_TOKEN_INVALID_003", ErrorKind.UNAUTHENTICATED, "The access token is invalid.")
AUTH_TOKEN_EXPIRED = code("AUTH_TOKEN_EXPIRED_004", ErrorKind.UNAUTHENTICATED, "The access token has expired.")
AUTH_SESSION_ENDED = code("AUTH_SESSION_ENDED_005", ErrorKind.UNAUTHENTICATED, "The session has ended; log in again.")
AUTH_UNVERIFIED = code(
    "AUTH_UNVERIFIED_006", ErrorKind.FORBIDDEN, "Verify the e-mail address first: the link is in your mail."
)
AUTH_INACTIVE = code("AUTH_INACTIVE_007", ErrorKind.FORBIDDEN, "This account has been deactivated.")
AUTH_FORBIDDEN = code("AUTH_FORBIDDEN_008", ErrorKind.FORBIDDEN, "Your role does not allow this.")
AUTH_MAIL_TOKEN_INVALID = code(
    "AUTH_MAIL_TOKEN_INVALID_009", ErrorKind.INVALID, "The link is invalid, used or expired."
)
AUTH_REFRESH_INVALID = code(
    "AUTH_REFRESH_INVALID_011",
    ErrorKind.UNAUTHENTICATED,
    "The refresh token is invalid, used or expired; log in again.",
)
AUTH_ACCOUNT_LIMITED = code(
    "AUTH_ACCOUNT_LIMITED_012",
    ErrorKind.LIMITED,
    "Too many failed logins for this account; wait as long as Retry-After says.",
)
AUTH_PASSWORD_NEEDED = code(
    "AUTH_PASSWORD_NEEDED_013",
    ErrorKind.INVALID,
    "Send a password with this link: the address was registered more than once, or the mail was requested again.",
)
AUTH_STEP_UP_REQUIRED = code(
    "AUTH_STEP_UP_REQUIRED_014", ErrorKind.FORBIDDEN, "Confirm your password first: POST /auth/step-up."
)

SESSIONS_NOT_FOUND = code("SESSIONS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "You have no such session.")

USERS_EMAIL_TAKEN = code("USERS_EMAIL_TAKEN_001", ErrorKind.CONFLICT, "An account with this e-mail address exists.")
USERS_NOT_FOUND = code("USERS_NOT_FOUND_002", ErrorKind.NOT_FOUND, "There is no such user, or you may not see them.")
USERS_LAST_ADMIN = code(
    "USERS_LAST_ADMIN_003", ErrorKind.CONFLICT, "The last active admin cannot be demoted, deactivated or deleted."
)
USERS_STALE = code(
    "USERS_STALE_004", ErrorKind.STALE, "The account has changed since you read it; read it again and repeat your edit."
)

CONTENT_NOT_FOUND = code(
    "CONTENT_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such content, or you may not see it."
)
CONTENT_ILLEGAL_TRANSITION = code(
    "CONTENT_ILLEGAL_TRANSITION_002", ErrorKind.CONFLICT, "The content's state does not allow this action."
)
CONTENT_STALE = code(
    "CONTENT_STALE_003",
    ErrorKind.STALE,
    "The content has changed since you read it; read it again and repeat your edit.",
)
CONTENT_IF_MATCH_MISSING = code(
    "CONTENT_IF_MATCH_MISSING_004",
    ErrorKind.PRECONDITION_MISSING,
    "Send If-Match with the ETag of the version you edit.",
)
CONTENT_OWN_REVIEW = code(
    "CONTENT_OWN_REVIEW_005",
    ErrorKind.FORBIDDEN,
    "Another editor must approve: you wrote this content or changed it last.",
)
CONTENT_PUBLISHED = code(
    "CONTENT_PUBLISHED_006", ErrorKind.CONFLICT, "Published content must be archived and restored before it can change."
)
CONTENT_FORBIDDEN = code(
    "CONTENT_FORBIDDEN_007", ErrorKind.FORBIDDEN, "Your role does not allow this action on this content."
)
CONTENT_CATEGORY_UNKNOWN = code("CONTENT_CATEGORY_UNKNOWN_008", ErrorKind.INVALID, "There is no such category.")

EXPORTS_LINK_GONE = code(
    "EXPORTS_LINK_GONE_001",
    ErrorKind.GONE,
    "The link alone no longer gives the archive: log in and POST the link's token to /users/me/export/download.",
)

QUOTA_CONTENT = code(
    "QUOTA_CONTENT_001", ErrorKind.CONFLICT, "You have reached your content quota; delete some content to write more."
)
QUOTA_RATE = code("QUOTA_RATE_002", ErrorKind.LIMITED, "You have reached the limit for this action; see Retry-After.")

REQUEST_INVALID = code("REQUEST_INVALID_001", ErrorKind.INVALID, "A field is missing, unknown or invalid.")
REQUEST_MALFORMED = code("REQUEST_MALFORMED_002", ErrorKind.INVALID, "The body is not JSON.")
REQUEST_TOO_LARGE = code("REQUEST_TOO_LARGE_003", ErrorKind.TOO_LARGE, "The body is larger than this server accepts.")
REQUEST_UNSUPPORTED = code("REQUEST_UNSUPPORTED_004", ErrorKind.UNSUPPORTED, "Send the body as application/json.")
REQUEST_LIMITED = code("REQUEST_LIMITED_005", ErrorKind.LIMITED, "Too many requests; wait as long as Retry-After says.")
REQUEST_CURSOR_INVALID = code(
    "REQUEST_CURSOR_INVALID_006", ErrorKind.INVALID, "The cursor was not issued by this server."
)
REQUEST_SLOW = code("REQUEST_SLOW_007", ErrorKind.SLOW, "The body did not arrive in time.")
REQUEST_NOT_HTTP = code("REQUEST_NOT_HTTP_008", ErrorKind.INVALID, "The request is not well-formed HTTP/1.1.")

REQUEST_KEY_REUSED = code(
    "REQUEST_KEY_REUSED_009", ErrorKind.REUSED, "The Idempotency-Key was used with another body; use a new key."
)
REQUEST_KEY_BUSY = code(
    "REQUEST_KEY_BUSY_010",
    ErrorKind.CONFLICT,
    "A request with this Idempotency-Key is still in progress; repeat it later.",
)
REQUEST_TARGET_TOO_LONG = code(
    "REQUEST_TARGET_TOO_LONG_011", ErrorKind.TARGET_TOO_LONG, "The request's target is longer than this server accepts."
)
REQUEST_HEADERS_TOO_LARGE = code(
    "REQUEST_HEADERS_TOO_LARGE_012", ErrorKind.HEADERS_TOO_LARGE, "The request's headers are too large or too many."
)
REQUEST_CODING_UNKNOWN = code(
    "REQUEST_CODING_UNKNOWN_013",
    ErrorKind.NOT_IMPLEMENTED,
    "This server supports no Transfer-Encoding except chunked.",
)
REQUEST_METHOD_UNKNOWN = code(
    "REQUEST_METHOD_UNKNOWN_014", ErrorKind.NOT_IMPLEMENTED, "This server does not support the request's method."
)
REQUEST_VERSION = code(
    "REQUEST_VERSION_015", ErrorKind.VERSION_UNSUPPORTED, "This server supports HTTP/1.1 and HTTP/1.0."
)
REQUEST_EXPECTATION = code(
    "REQUEST_EXPECTATION_016",
    ErrorKind.EXPECTATION_FAILED,
    "This server supports no expectation except 100-continue.",
)
REQUEST_STALE = code(
    "REQUEST_STALE_017",
    ErrorKind.STALE,
    "The resource does not meet the condition of If-Match or If-None-Match; read it again.",
)

REQUEST_HOST = code(
    "REQUEST_HOST_018",
    ErrorKind.MISDIRECTED,
    "The Host header must be an IP address, localhost or a name in OPS_HOSTS.",
)

ROUTE_NOT_FOUND = code("ROUTE_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such route.")
ROUTE_METHOD = code("ROUTE_METHOD_002", ErrorKind.METHOD_NOT_ALLOWED, "The route does not support this method.")

POOLS_NOT_FOUND = code("POOLS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such pool.")

JOBS_NOT_FOUND = code("JOBS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such job.")
JOBS_NOT_WAITING = code(
    "JOBS_NOT_WAITING_002", ErrorKind.CONFLICT, "The job is not waiting: it is running, or blocked by its key."
)
JOBS_NOT_DEAD = code(
    "JOBS_NOT_DEAD_003",
    ErrorKind.CONFLICT,
    "The job is not a dead letter that can be replayed: it has been replayed or discarded.",
)
JOBS_KIND_UNKNOWN = code("JOBS_KIND_UNKNOWN_004", ErrorKind.NOT_FOUND, "There is no such job kind.")
JOBS_SCHEDULE_UNKNOWN = code("JOBS_SCHEDULE_UNKNOWN_005", ErrorKind.NOT_FOUND, "There is no such schedule.")

FLAGS_NOT_FOUND = code("FLAGS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such feature flag.")
FLAGS_FULL = code("FLAGS_FULL_002", ErrorKind.CONFLICT, "The flag has the maximum number of overrides.")

SERVER_UNAVAILABLE = code(
    "SERVER_UNAVAILABLE_001", ErrorKind.UNAVAILABLE, "A server that this call needs is unavailable; try again."
)
SERVER_OVERLOADED = code("SERVER_OVERLOADED_002", ErrorKind.UNAVAILABLE, "The server is overloaded; try again.")
SERVER_TIMEOUT = code(
    "SERVER_TIMEOUT_003",
    ErrorKind.UNAVAILABLE,
    "The request timed out. It may have been executed: repeat it with the same Idempotency-Key.",
)
SERVER_DRAINING = code("SERVER_DRAINING_004", ErrorKind.UNAVAILABLE, "The server is shutting down; try again.")
SERVER_BUG = code("SERVER_BUG_005", ErrorKind.BUG, "An internal error occurred; report the trace id.")
SERVER_NOT_READY = code(
    "SERVER_NOT_READY_006", ErrorKind.UNAVAILABLE, "This server cannot reach a server that it needs; see the details."
)
SERVER_MAINTENANCE = code(
    "SERVER_MAINTENANCE_007", ErrorKind.UNAVAILABLE, "The server is in maintenance; try again later."
)

"""The errors of producer keys and of events over HTTP."""

from callboard.actors.errors import ErrorCode, ErrorKind, declared_in

KEYS_INVALID = ErrorCode(
    "KEYS_INVALID_001", ErrorKind.UNAUTHENTICATED, "This call needs a Bearer producer key that is not revoked."
)
KEYS_NOT_FOUND = ErrorCode("KEYS_NOT_FOUND_002", ErrorKind.NOT_FOUND, "There is no such producer key.")
KEYS_NAME_TAKEN = ErrorCode(
    "KEYS_NAME_TAKEN_003", ErrorKind.CONFLICT, "A producer key that is not revoked has this name."
)
KEYS_FULL = ErrorCode("KEYS_FULL_004", ErrorKind.CONFLICT, "There are too many producer keys; revoke one.")

EVENTS_NOT_ALLOWED = ErrorCode(
    "EVENTS_NOT_ALLOWED_001", ErrorKind.FORBIDDEN, "The producer key does not allow these events; see the details."
)
EVENTS_QUOTA = ErrorCode(
    "EVENTS_QUOTA_002", ErrorKind.LIMITED, "The producer has reached its quota; wait as long as Retry-After says."
)

ERRORS = declared_in(globals())

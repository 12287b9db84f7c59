"""The errors of delivery: notifications and their links."""

from callboard.actors.errors import ErrorCode, ErrorKind, declared_in

NOTIFICATIONS_NOT_FOUND = ErrorCode(
    "NOTIFICATIONS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such notification, or it is not yours."
)
NOTIFICATIONS_STALE = ErrorCode(
    "NOTIFICATIONS_STALE_002", ErrorKind.STALE, "The preferences have changed since you read them; read them again."
)
NOTIFICATIONS_LINK_INVALID = ErrorCode(
    "NOTIFICATIONS_LINK_INVALID_003", ErrorKind.INVALID, "The unsubscribe link is not complete, or not ours."
)
NOTIFICATIONS_TOO_MANY_STREAMS = ErrorCode(
    "NOTIFICATIONS_TOO_MANY_STREAMS_004", ErrorKind.LIMITED, "Too many streams are open; close one, or wait."
)

ERRORS = declared_in(globals())

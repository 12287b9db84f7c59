"""The errors of editorial: articles and their workflow."""

from callboard.actors.errors import ErrorCode, ErrorKind, declared_in

CONTENT_NOT_FOUND = ErrorCode(
    "CONTENT_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such content, or you may not see it."
)
CONTENT_ILLEGAL_TRANSITION = ErrorCode(
    "CONTENT_ILLEGAL_TRANSITION_002", ErrorKind.CONFLICT, "The content's state does not allow this action."
)
CONTENT_STALE = ErrorCode(
    "CONTENT_STALE_003",
    ErrorKind.STALE,
    "The content has changed since you read it; read it again and repeat your edit.",
)
CONTENT_IF_MATCH_MISSING = ErrorCode(
    "CONTENT_IF_MATCH_MISSING_004",
    ErrorKind.PRECONDITION_MISSING,
    "Send If-Match with the ETag of the version you edit.",
)
CONTENT_OWN_REVIEW = ErrorCode(
    "CONTENT_OWN_REVIEW_005",
    ErrorKind.FORBIDDEN,
    "Another editor must approve: you wrote this content or changed it last.",
)
CONTENT_PUBLISHED = ErrorCode(
    "CONTENT_PUBLISHED_006", ErrorKind.CONFLICT, "Published content must be archived and restored before it can change."
)
CONTENT_FORBIDDEN = ErrorCode(
    "CONTENT_FORBIDDEN_007", ErrorKind.FORBIDDEN, "Your role does not allow this action on this content."
)
CONTENT_CATEGORY_UNKNOWN = ErrorCode("CONTENT_CATEGORY_UNKNOWN_008", ErrorKind.INVALID, "There is no such category.")

ERRORS = declared_in(globals())

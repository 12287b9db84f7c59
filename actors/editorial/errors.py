"""The errors of editorial: articles, their workflow, comments and uploads."""

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
CONTENT_REVISION_NOT_FOUND = ErrorCode(
    "CONTENT_REVISION_NOT_FOUND_015", ErrorKind.NOT_FOUND, "The article has no such revision, or keeps it no longer."
)
SEARCH_FACETS_OFF = ErrorCode(
    "SEARCH_FACETS_OFF_001", ErrorKind.FORBIDDEN, "Facets are switched off: see the flag enable_advanced_search."
)

COMMENT_NOT_FOUND = ErrorCode(
    "COMMENT_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such comment, or you may not see it."
)
COMMENT_PARENT_UNKNOWN = ErrorCode(
    "COMMENT_PARENT_UNKNOWN_002", ErrorKind.INVALID, "The content has no such comment that can be answered."
)
COMMENT_TOO_DEEP = ErrorCode(
    "COMMENT_TOO_DEEP_003", ErrorKind.CONFLICT, "The thread has its greatest depth here; answer an earlier comment."
)
COMMENT_CONTENT_UNPUBLISHED = ErrorCode(
    "COMMENT_CONTENT_UNPUBLISHED_004", ErrorKind.CONFLICT, "Only published content can be commented on."
)
COMMENT_FORBIDDEN = ErrorCode(
    "COMMENT_FORBIDDEN_005", ErrorKind.FORBIDDEN, "Only its author and editors may change a comment."
)
COMMENT_EDIT_CLOSED = ErrorCode(
    "COMMENT_EDIT_CLOSED_006",
    ErrorKind.CONFLICT,
    "The comment is too old for an edit by its author, or an editor has hidden it.",
)
COMMENT_STALE = ErrorCode(
    "COMMENT_STALE_007",
    ErrorKind.STALE,
    "The comment has changed since you read it; read it again and repeat your change.",
)
COMMENT_IF_MATCH_MISSING = ErrorCode(
    "COMMENT_IF_MATCH_MISSING_008",
    ErrorKind.PRECONDITION_MISSING,
    "Send If-Match with the ETag of the version you edit.",
)
COMMENT_ILLEGAL_MODERATION = ErrorCode(
    "COMMENT_ILLEGAL_MODERATION_009", ErrorKind.CONFLICT, "The comment's state does not allow this action."
)
COMMENT_OWN_REPORT = ErrorCode("COMMENT_OWN_REPORT_010", ErrorKind.CONFLICT, "You wrote this comment.")
COMMENT_QUOTA = ErrorCode(
    "COMMENT_QUOTA_011", ErrorKind.CONFLICT, "You have reached your quota of comments; delete some to write more."
)

UPLOADS_NOT_FOUND = ErrorCode(
    "UPLOADS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such upload of yours, or it has expired."
)
UPLOADS_OFFSET = ErrorCode(
    "UPLOADS_OFFSET_002", ErrorKind.CONFLICT, "Upload-Offset is not the upload's offset; HEAD gives it."
)
UPLOADS_LOCKED = ErrorCode(
    "UPLOADS_LOCKED_003", ErrorKind.LOCKED, "Another request is writing to this upload; try again."
)
UPLOADS_TOO_LARGE = ErrorCode(
    "UPLOADS_TOO_LARGE_004", ErrorKind.TOO_LARGE, "The upload is larger than this server accepts, or than it said."
)
UPLOADS_QUOTA = ErrorCode(
    "UPLOADS_QUOTA_005", ErrorKind.TOO_LARGE, "You have reached your quota of uploads; delete some to send more."
)
UPLOADS_CHECKSUM = ErrorCode(
    "UPLOADS_CHECKSUM_006", ErrorKind.CHECKSUM_MISMATCH, "The bytes do not have this Upload-Checksum; send them again."
)
UPLOADS_VERSION = ErrorCode(
    "UPLOADS_VERSION_007", ErrorKind.PROTOCOL_UNSUPPORTED, "Send Tus-Resumable with a version of Tus-Version."
)
UPLOADS_FINAL = ErrorCode(
    "UPLOADS_FINAL_008", ErrorKind.FORBIDDEN, "A final upload is made of its parts: no bytes can be added."
)
UPLOADS_PARTS = ErrorCode(
    "UPLOADS_PARTS_009", ErrorKind.INVALID, "Upload-Concat must name complete partial uploads of yours."
)
UPLOADS_SIZE = ErrorCode(
    "UPLOADS_SIZE_010", ErrorKind.INVALID, "The length of an upload cannot change, nor be less than its offset."
)
UPLOADS_VIDEO = ErrorCode("UPLOADS_VIDEO_011", ErrorKind.FORBIDDEN, "Videos are not accepted here.")
UPLOADS_TYPE = ErrorCode(
    "UPLOADS_TYPE_012", ErrorKind.FORBIDDEN, "Files of this type are not accepted here; `allowed` has those that are."
)
CATEGORY_NOT_FOUND = ErrorCode("CATEGORY_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such category.")
CATEGORY_NAME_TAKEN = ErrorCode(
    "CATEGORY_NAME_TAKEN_002", ErrorKind.CONFLICT, "Another category has this name, perhaps in another case."
)
CATEGORY_SLUG_TAKEN = ErrorCode("CATEGORY_SLUG_TAKEN_003", ErrorKind.CONFLICT, "Another category has this slug.")
CATEGORY_STALE = ErrorCode(
    "CATEGORY_STALE_004",
    ErrorKind.STALE,
    "The category has changed since you read it; read it again and repeat your change.",
)
CATEGORY_FULL = ErrorCode("CATEGORY_FULL_005", ErrorKind.CONFLICT, "There is the maximum of categories.")

ATTACHMENTS_NOT_DRAFT = ErrorCode(
    "ATTACHMENTS_NOT_DRAFT_001", ErrorKind.CONFLICT, "Attachments change only while the content is a draft."
)
ATTACHMENTS_FULL = ErrorCode("ATTACHMENTS_FULL_002", ErrorKind.CONFLICT, "The content has the maximum of attachments.")
AVATARS_NOT_FOUND = ErrorCode("AVATARS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "The user has no avatar.")
AVATARS_NOT_IMAGE = ErrorCode(
    "AVATARS_NOT_IMAGE_002", ErrorKind.INVALID, "An avatar is an image of a format in `allowed`, and not too large."
)

ERRORS = declared_in(globals())

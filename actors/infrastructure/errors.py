"""The errors of the infrastructure: quotas, flags, pools, jobs and the store of objects."""

from callboard.actors.errors import ErrorCode, ErrorKind, declared_in

QUOTA_CONTENT = ErrorCode(
    "QUOTA_CONTENT_001", ErrorKind.CONFLICT, "You have reached your content quota; delete some content to write more."
)
QUOTA_RATE = ErrorCode(
    "QUOTA_RATE_002", ErrorKind.LIMITED, "You have reached the limit for this action; see Retry-After."
)

POOLS_NOT_FOUND = ErrorCode("POOLS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such pool.")

JOBS_NOT_FOUND = ErrorCode("JOBS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such job.")
JOBS_NOT_WAITING = ErrorCode(
    "JOBS_NOT_WAITING_002", ErrorKind.CONFLICT, "The job is not waiting: it is running, or blocked by its key."
)
JOBS_NOT_DEAD = ErrorCode(
    "JOBS_NOT_DEAD_003",
    ErrorKind.CONFLICT,
    "The job is not a dead letter that can be replayed: it has been replayed or discarded.",
)
JOBS_KIND_UNKNOWN = ErrorCode("JOBS_KIND_UNKNOWN_004", ErrorKind.NOT_FOUND, "There is no such job kind.")
JOBS_SCHEDULE_UNKNOWN = ErrorCode("JOBS_SCHEDULE_UNKNOWN_005", ErrorKind.NOT_FOUND, "There is no such schedule.")
JOBS_OVER = ErrorCode("JOBS_OVER_006", ErrorKind.CONFLICT, "The job is over: there is nothing to cancel.")
JOBS_NOT_RETRIED = ErrorCode(
    "JOBS_NOT_RETRIED_007", ErrorKind.CONFLICT, "Only a job that has failed or was cancelled can be retried."
)

DEAD_LETTERS_NOT_FOUND = ErrorCode("DEAD_LETTERS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such dead letter.")

FLAGS_NOT_FOUND = ErrorCode("FLAGS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "There is no such feature flag.")
FLAGS_FULL = ErrorCode("FLAGS_FULL_002", ErrorKind.CONFLICT, "The flag has the maximum number of overrides.")

STORE_FULL = ErrorCode("STORE_FULL_001", ErrorKind.STORAGE_FULL, "The server has no room for more bytes; try later.")
STORE_LOST = ErrorCode("STORE_LOST_002", ErrorKind.GONE, "Bytes of this upload are lost; upload it again.")
STORE_BUSY = ErrorCode("STORE_BUSY_003", ErrorKind.CONFLICT, "Another request is writing to this upload; try later.")

ERRORS = declared_in(globals())

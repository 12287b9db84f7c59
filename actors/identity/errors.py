"""The errors of identity: logins, accounts, sessions and exports."""

from callboard.actors.errors import ErrorCode, ErrorKind, declared_in

AUTH_INVALID_CREDENTIALS = ErrorCode(
    "AUTH_INVALID_CREDENTIALS_001", ErrorKind.UNAUTHENTICATED, "The e-mail address or the password is wrong."
)
AUTH_SESSION_ENDED = ErrorCode(
    "AUTH_SESSION_ENDED_005", ErrorKind.UNAUTHENTICATED, "The session has ended; log in again."
)
AUTH_UNVERIFIED = ErrorCode(
    "AUTH_UNVERIFIED_006", ErrorKind.FORBIDDEN, "Verify the e-mail address first: the link is in your mail."
)
AUTH_INACTIVE = ErrorCode("AUTH_INACTIVE_007", ErrorKind.FORBIDDEN, "This account has been deactivated.")
AUTH_MAIL_TOKEN_INVALID = ErrorCode(
    "AUTH_MAIL_TOKEN_INVALID_009", ErrorKind.INVALID, "The link is invalid, used or expired."
)
AUTH_REFRESH_INVALID = ErrorCode(
    "AUTH_REFRESH_INVALID_011",
    ErrorKind.UNAUTHENTICATED,
    "The refresh token is invalid, used or expired; log in again.",
)
AUTH_ACCOUNT_LIMITED = ErrorCode(
    "AUTH_ACCOUNT_LIMITED_012",
    ErrorKind.LIMITED,
    "Too many failed logins for this account; wait as long as Retry-After says.",
)
AUTH_PASSWORD_NEEDED = ErrorCode(
    "AUTH_PASSWORD_NEEDED_013",
    ErrorKind.INVALID,
    "Send a password with this link: the address was registered more than once, or the mail was requested again.",
)
AUTH_STEP_UP_REQUIRED = ErrorCode(
    "AUTH_STEP_UP_REQUIRED_014", ErrorKind.FORBIDDEN, "Confirm your password first: POST /auth/step-up."
)

SESSIONS_NOT_FOUND = ErrorCode("SESSIONS_NOT_FOUND_001", ErrorKind.NOT_FOUND, "You have no such session.")

USERS_EMAIL_TAKEN = ErrorCode(
    "USERS_EMAIL_TAKEN_001", ErrorKind.CONFLICT, "An account with this e-mail address exists."
)
USERS_NOT_FOUND = ErrorCode(
    "USERS_NOT_FOUND_002", ErrorKind.NOT_FOUND, "There is no such user, or you may not see them."
)
USERS_LAST_ADMIN = ErrorCode(
    "USERS_LAST_ADMIN_003", ErrorKind.CONFLICT, "The last active admin cannot be demoted, deactivated or deleted."
)
USERS_STALE = ErrorCode(
    "USERS_STALE_004", ErrorKind.STALE, "The account has changed since you read it; read it again and repeat your edit."
)

EXPORTS_LINK_GONE = ErrorCode(
    "EXPORTS_LINK_GONE_001",
    ErrorKind.GONE,
    "The link alone no longer gives the archive: log in and POST the link's token to /users/me/export/download.",
)

ERRORS = declared_in(globals())

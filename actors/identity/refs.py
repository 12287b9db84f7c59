"""The offers of identity to other departments and to its routes."""

from msgspec import Struct

from callboard.actors.identity.authentication import LogIn, StepUp
from callboard.actors.identity.data_export import DownloadExport, ReadPiece, RequestExport
from callboard.actors.identity.email_requests import RequestEmail
from callboard.actors.identity.living_sessions import LivingSessions
from callboard.actors.identity.password_policy import PasswordPolicy
from callboard.actors.identity.password_reset import ChangePassword, ResetPassword
from callboard.actors.identity.profiles import GetProfile, ReplaceProfile
from callboard.actors.identity.session_cache import Authentication, SessionCache
from callboard.actors.identity.sessions import RequireStepUp, SessionMessage
from callboard.actors.identity.user_import_job import StartUserImport
from callboard.actors.identity.users import UserMessage
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.actors.infrastructure.token_signer import Claims
from callboard.runtime import Ref

# keyed by address: registrations, logins, and requests for mails
REGISTER = RateLimit("register", 5, 60, "rate_limit_register")
LOGIN = RateLimit("login", 10, 60, "rate_limit_login")
MAIL = RateLimit("mail", 5, 60, "rate_limit_register")


class IdentityRefs(Struct, frozen=True):
    """References to accounts and their sessions, and the policy for new passwords."""

    users: Ref[UserMessage]
    logins: Ref[LogIn | StepUp]
    sessions: Ref[SessionMessage]
    profiles: Ref[GetProfile | ReplaceProfile]
    exports: Ref[RequestExport | DownloadExport | ReadPiece]
    password_reset: Ref[ResetPassword | ChangePassword]
    email_requests: Ref[RequestEmail]
    user_imports: Ref[StartUserImport]
    session_cache: SessionCache
    password_policy: PasswordPolicy
    living_sessions: LivingSessions

    def authenticate(self, claims: Claims) -> Authentication:
        """Return an awaitable of the principal of a token with these claims. Raises Problem(AUTH_...)."""
        return Authentication(self.session_cache, self.sessions, claims.user_id, claims.session_id)

    async def require_step_up(self, caller: Principal) -> None:
        """Raise Problem(AUTH_STEP_UP_REQUIRED) unless the caller's session has confirmed its password lately."""
        await self.sessions.ask(RequireStepUp(caller.user_id, caller.session_id))

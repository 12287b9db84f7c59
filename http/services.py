"""What the routes of the front door speak to: the addresses of the domain's actors."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec

from callboard.actors.audit_log import ListAuditEntries
from callboard.actors.content import CreateContent, DeleteContent, EditContent, MoveContent
from callboard.actors.email_requests import RequestEmail
from callboard.actors.exports import DownloadExport, ReadPiece, RequestExport
from callboard.actors.flags import GetFlag, SetFlag
from callboard.actors.keys import Jwk
from callboard.actors.library import ListContent, ListTransitions, ReadContent, SearchContent
from callboard.actors.logins import LogIn, StepUp
from callboard.actors.password_policy import PasswordPolicy
from callboard.actors.profiles import GetProfile, PutProfile
from callboard.actors.recovery import ChangePassword, ResetPassword
from callboard.actors.sessions import SessionMessage
from callboard.actors.stats import GetStats
from callboard.actors.users import UserMessage
from callboard.runtime import Ref


class Services(msgspec.Struct, frozen=True):
    """One reference for each kind of work, the clock, and what new passwords need."""

    users: Ref[UserMessage]
    logins: Ref[LogIn | StepUp]
    sessions: Ref[SessionMessage]
    content: Ref[CreateContent | EditContent | DeleteContent | MoveContent]
    library: Ref[ReadContent | ListContent | SearchContent | ListTransitions]
    stats: Ref[GetStats]
    now: Callable[[], datetime]
    jwks: list[Jwk]
    profiles: Ref[GetProfile | PutProfile]
    exports: Ref[RequestExport | DownloadExport | ReadPiece]
    recovery: Ref[ResetPassword | ChangePassword]
    flags: Ref[GetFlag | SetFlag]
    email_requests: Ref[RequestEmail]
    password_policy: PasswordPolicy
    audit_log: Ref[ListAuditEntries]
    view_flags: Callable[[UUID | None], dict[str, bool]]

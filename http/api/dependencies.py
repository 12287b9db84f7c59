"""The dependencies of the API's routes: references to the domain's actors."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec

from callboard.actors.analytics.aggregator import GetStats
from callboard.actors.editorial.content_queries import ListContent, ListTransitions, ReadContent, SearchContent
from callboard.actors.editorial.workflow import CreateContent, DeleteContent, EditContent, TransitionContent
from callboard.actors.identity.authentication import LogIn, StepUp
from callboard.actors.identity.data_export import DownloadExport, ReadPiece, RequestExport
from callboard.actors.identity.email_requests import RequestEmail
from callboard.actors.identity.password_policy import PasswordPolicy
from callboard.actors.identity.password_reset import ChangePassword, ResetPassword
from callboard.actors.identity.profiles import GetProfile, ReplaceProfile
from callboard.actors.identity.sessions import SessionMessage
from callboard.actors.identity.users import UserMessage
from callboard.actors.infrastructure.audit_log import ListAuditEntries
from callboard.actors.infrastructure.feature_flags import GetFlag, SetFlag
from callboard.actors.infrastructure.signing_keys import Jwk
from callboard.runtime import Ref


class Services(msgspec.Struct, frozen=True):
    """One reference for each kind of work, the clock, and what new passwords need."""

    users: Ref[UserMessage]
    logins: Ref[LogIn | StepUp]
    sessions: Ref[SessionMessage]
    content: Ref[CreateContent | EditContent | DeleteContent | TransitionContent]
    library: Ref[ReadContent | ListContent | SearchContent | ListTransitions]
    stats: Ref[GetStats]
    now: Callable[[], datetime]
    jwks: list[Jwk]
    profiles: Ref[GetProfile | ReplaceProfile]
    exports: Ref[RequestExport | DownloadExport | ReadPiece]
    recovery: Ref[ResetPassword | ChangePassword]
    flags: Ref[GetFlag | SetFlag]
    email_requests: Ref[RequestEmail]
    password_policy: PasswordPolicy
    audit_log: Ref[ListAuditEntries]
    view_flags: Callable[[UUID | None], dict[str, bool]]

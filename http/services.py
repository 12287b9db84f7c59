"""What the routes of the front door speak to: the addresses of the domain's actors."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from callboard.actors.content import CreateContent, DeleteContent, EditContent, MoveContent
from callboard.actors.exports import FetchExport, RequestExport
from callboard.actors.flags import GetFlag, SetFlag
from callboard.actors.keys import Jwk
from callboard.actors.library import ListContent, ListTransitions, ReadContent, SearchContent
from callboard.actors.logins import LogIn
from callboard.actors.passwords import PasswordPolicy
from callboard.actors.profiles import GetProfile, PutProfile
from callboard.actors.recovery import ChangePassword, ResetPassword, SendReset
from callboard.actors.sessions import SessionMessage
from callboard.actors.stats import GetStats
from callboard.actors.users import UserMessage
from callboard.runtime import Context, Message, Ref, current_context, use_context

M = TypeVar("M", bound=Message)


class Services(msgspec.Struct, frozen=True):
    """One reference for each kind of work, the clock, and what new passwords need."""

    users: Ref[UserMessage]
    logins: Ref[LogIn]
    sessions: Ref[SessionMessage]
    content: Ref[CreateContent | EditContent | DeleteContent | MoveContent]
    library: Ref[ReadContent | ListContent | SearchContent | ListTransitions]
    stats: Ref[GetStats]
    now: Callable[[], datetime]
    jwks: list[Jwk]
    profiles: Ref[GetProfile | PutProfile]
    exports: Ref[RequestExport | FetchExport]
    recovery: Ref[SendReset | ResetPassword | ChangePassword]
    flags: Ref[GetFlag | SetFlag]
    password_policy: PasswordPolicy


async def later(ref: Ref[M], message: M) -> None:
    """Have something done after the answer, whose time then tells nothing of it. Its trace goes on, its deadline not.

    Raises MailboxFullError when there is too much to do.
    """
    context = current_context()
    with use_context(Context(context.traceparent) if context else None):
        await ref.tell(message)

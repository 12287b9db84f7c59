"""What the routes of the front door speak to: the addresses of the domain's actors."""

from collections.abc import Callable
from datetime import datetime

import msgspec

from callboard.actors.content import CreateContent, DeleteContent, EditContent, MoveContent
from callboard.actors.keys import Jwk
from callboard.actors.library import ListContent, ListTransitions, ReadContent, SearchContent
from callboard.actors.logins import LogIn
from callboard.actors.sessions import SessionMessage
from callboard.actors.stats import GetStats
from callboard.actors.users import ChangeUser, GetUser, RegisterUser, ResendVerification, VerifyEmail
from callboard.runtime import Ref


class Services(msgspec.Struct, frozen=True):
    """One reference for each kind of work, and the clock."""

    users: Ref[RegisterUser | VerifyEmail | ResendVerification | GetUser | ChangeUser]
    logins: Ref[LogIn]
    sessions: Ref[SessionMessage]
    content: Ref[CreateContent | EditContent | DeleteContent | MoveContent]
    library: Ref[ReadContent | ListContent | SearchContent | ListTransitions]
    stats: Ref[GetStats]
    now: Callable[[], datetime]
    jwks: list[Jwk]

"""Accounts over HTTP: registration, verification, one's own account, and what admins change."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from callboard.actors.access import Role
from callboard.actors.errors import (
    AUTH_MAIL_TOKEN_INVALID,
    REQUEST_INVALID,
    USERS_EMAIL_TAKEN,
    USERS_LAST_ADMIN,
    USERS_NOT_FOUND,
    Detail,
    Problem,
)
from callboard.actors.users import ChangeUser, GetUser, RegisterUser, ResendVerification, User, VerifyEmail
from callboard.http.call import Body, Call, Reply
from callboard.http.routing import Access, Route
from callboard.http.services import Services

Email = Annotated[str, Meta(max_length=254, examples=["ada@example.org"])]
Secret = Annotated[str, Meta(max_length=128)]
FullName = Annotated[str, Meta(min_length=1, max_length=200, examples=["Ada Lovelace"])]


class Registration(Body, frozen=True, kw_only=True):
    """A new account. The password has 8 to 128 characters, an upper case letter and a digit."""

    email: Email
    password: Secret
    full_name: FullName
    terms_accepted: bool


class Registered(msgspec.Struct, frozen=True):
    """The account that was made; it can log in once its address is verified."""

    user_id: UUID
    email: str
    full_name: str
    is_verified: bool
    created_at: datetime


class Verification(Body, frozen=True, kw_only=True):
    """The secret at the end of the link in the mail."""

    token: Secret


class Address(Body, frozen=True, kw_only=True):
    """An account's address."""

    email: Email


class UserChange(Body, frozen=True, kw_only=True):
    """What an admin may change; what is left out stays."""

    role: Role | msgspec.UnsetType = msgspec.UNSET
    is_active: bool | msgspec.UnsetType = msgspec.UNSET


async def register(call: Call[Registration, None, Services]) -> Reply[Registered]:
    """Make an account, and have the verification mail sent."""
    body = call.body
    user = await call.services.users.ask(RegisterUser(body.email, body.password, body.full_name, body.terms_accepted))
    view = Registered(user.user_id, user.email, user.full_name, user.is_verified, user.created_at)
    return Reply(view, message="Check your mail to verify the address.", location=f"/api/v1/users/{user.user_id}")


async def verify(call: Call[Verification, None, Services]) -> Reply[User]:
    """Use the secret of a verification mail."""
    return Reply(await call.services.users.ask(VerifyEmail(call.body.token)))


async def resend(call: Call[Address, None, Services]) -> Reply[None]:
    """Send the verification mail again; the answer is the same whether there is such an account or not."""
    await call.services.users.ask(ResendVerification(call.body.email))
    return Reply(None, message="If the address has an account to verify, a mail is on its way.")


async def me(call: Call[None, None, Services]) -> Reply[User]:
    """One's own account."""
    return Reply(await call.services.users.ask(GetUser(call.identity.user_id)))


async def read(call: Call[None, None, Services]) -> Reply[User]:
    """An account."""
    return Reply(await call.services.users.ask(GetUser(call.uuid("user_id"))))


async def change(call: Call[UserChange, None, Services]) -> Reply[User]:
    """Change an account's role or whether it is active."""
    role, is_active = call.body.role, call.body.is_active
    if role is msgspec.UNSET and is_active is msgspec.UNSET:
        raise Problem(REQUEST_INVALID, details=(Detail("role", "give role, is_active or both"),))
    changed = await call.services.users.ask(
        ChangeUser(
            call.uuid("user_id"),
            None if isinstance(role, msgspec.UnsetType) else role,
            None if isinstance(is_active, msgspec.UnsetType) else is_active,
        )
    )
    return Reply(changed)


ROUTES: tuple[Route[Services], ...] = (
    Route(
        "POST",
        "/auth/register",
        register,
        summary="Register an account",
        tag="accounts",
        access=Access.PUBLIC,
        status=201,
        limit="register",
        errors=(USERS_EMAIL_TAKEN,),
    ),
    Route(
        "POST",
        "/auth/verify-email",
        verify,
        summary="Verify an address",
        tag="accounts",
        access=Access.PUBLIC,
        errors=(AUTH_MAIL_TOKEN_INVALID,),
    ),
    Route(
        "POST",
        "/auth/resend-verification",
        resend,
        summary="Send the verification mail again",
        tag="accounts",
        access=Access.PUBLIC,
        status=202,
        limit="mail",
    ),
    Route("GET", "/users/me", me, summary="Read one's own account", tag="accounts", access=Access.USER),
    Route(
        "GET",
        "/users/{user_id}",
        read,
        summary="Read an account",
        tag="accounts",
        access=Access.SELF_OR_ADMIN,
        errors=(USERS_NOT_FOUND,),
    ),
    Route(
        "PATCH",
        "/users/{user_id}",
        change,
        summary="Change an account's role or whether it is active",
        tag="accounts",
        access=Access.ADMIN,
        errors=(USERS_NOT_FOUND, USERS_LAST_ADMIN),
    ),
)

"""Accounts over HTTP: registration, verification, your own account, and the administration of accounts."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from callboard.actors.errors import REQUEST_CURSOR_INVALID, REQUEST_INVALID, FieldError, Problem
from callboard.actors.identity.email_requests import RequestEmail
from callboard.actors.identity.email_verification import FullName, registration_faults
from callboard.actors.identity.errors import (
    AUTH_MAIL_TOKEN_INVALID,
    AUTH_PASSWORD_NEEDED,
    AUTH_STEP_UP_REQUIRED,
    USERS_EMAIL_TAKEN,
    USERS_LAST_ADMIN,
    USERS_NOT_FOUND,
    USERS_STALE,
)
from callboard.actors.identity.refs import MAIL, REGISTER, IdentityRefs
from callboard.actors.identity.users import (
    ChangeUser,
    DeleteUser,
    GetUser,
    ListUsers,
    RefuseEmail,
    RegisterUser,
    UndoEmailChange,
    UpdateUser,
    User,
    VerifyEmail,
)
from callboard.actors.infrastructure.principals import Role
from callboard.http.server.pagination import BY_TIME
from callboard.http.server.request import Body, HttpRequest, Page, PageReply, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.email_address import Email, KnownEmail
from callboard.streams.event_types import UtcDatetime
from callboard.streams.language_tags import preferred_languages
from callboard.streams.visible_text import UNSEEN

# 256 bits in base64url: no other text is a token of ours.
Secret = Annotated[
    str,
    Meta(
        max_length=128,
        examples=["the-end-of-the-link-in-a-mail_-43-letters-0"],
        extra_json_schema={"pattern": "^[A-Za-z0-9_-]{43}$"},
    ),
]
Password = Annotated[str, Meta(max_length=256)]  # of 128 characters, which may be more once decomposed
# The part of the default policy that a schema can express; the policy itself reports every fault.
NewPassword = Annotated[
    str,
    Meta(
        max_length=256,
        examples=["Curtain-Call-7"],
        description="8 to 128 characters, an upper case letter and a digit; none that is common or holds your name.",
        extra_json_schema={
            "minLength": 8,
            "maxLength": 128,
            "pattern": rf"^(?=[\s\S]*[A-Z])(?=[\s\S]*[0-9])[^{UNSEEN}]*$",
        },
    ),
]


class Registration(Body, frozen=True, kw_only=True):
    """A new account. The password has 8 to 128 characters, an upper case letter and a digit."""

    email: Email
    password: NewPassword
    full_name: FullName
    terms_accepted: bool


class Registered(msgspec.Struct, frozen=True):
    """The new account; it can log in once its address is verified."""

    user_id: UUID
    email: str
    full_name: str
    is_verified: bool
    created_at: UtcDatetime


class Verification(Body, frozen=True, kw_only=True):
    """The token at the end of the link in the mail.

    `password` is required if the address was registered more than once or the mail was requested again. It becomes the
    password of the account.
    """

    token: Secret
    password: NewPassword | None = None


class LinkToken(Body, frozen=True, kw_only=True):
    """The token at the end of the link in the mail."""

    token: Secret


class Address(Body, frozen=True, kw_only=True):
    """An account's address."""

    email: KnownEmail


class Account(Body, frozen=True, kw_only=True):
    """The fields of an account that its user may change. Without an address the current one stays; a new address takes
    effect once it is verified by mail.
    """

    full_name: FullName
    email: KnownEmail | None = None


class Filter(Page, frozen=True, kw_only=True):
    """Filters of a list of accounts: `email` is a whole address in any case, `q` part of the name or address."""

    cursor: Annotated[str, BY_TIME.meta] | None = None
    email: KnownEmail | None = None
    role: Role | None = None
    is_verified: bool | None = None
    is_active: bool | None = None
    created_after: UtcDatetime | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class UserChange(Body, frozen=True, kw_only=True):
    """The fields of an account that an admin may change; omitted fields keep their value."""

    SCHEMA: ClassVar[Mapping[str, Any]] = {"minProperties": 1}

    role: Role | msgspec.UnsetType = msgspec.UNSET
    is_active: bool | msgspec.UnsetType = msgspec.UNSET


def registration_rules(refs: IdentityRefs, sound: Mapping[str, Any]) -> list[FieldError]:
    """Validate the well-formed fields of a registration."""
    email, password, full_name, terms = map(sound.get, ("email", "password", "full_name", "terms_accepted"))
    return registration_faults(refs.password_policy, email, password, full_name, terms_accepted=terms)


async def register(request: HttpRequest[Registration, None, IdentityRefs]) -> Reply[Registered]:
    """Create an account and send the verification mail, in the language of Accept-Language if there is one."""
    body = request.body
    user = await request.refs.users.ask(
        RegisterUser(
            body.email,
            body.password,
            body.full_name,
            body.terms_accepted,
            request.new_id,
            request.ip,
            preferred_languages(request.header("Accept-Language")),
        )
    )
    view = Registered(user.user_id, user.email, user.full_name, user.is_verified, user.created_at)
    return Reply(
        view,
        message="Registration successful. Please check your email to verify your account.",
        location=f"/api/v1/users/{user.user_id}",
    )


async def verify(request: HttpRequest[Verification, None, IdentityRefs]) -> Reply[User]:
    """Verify an address with the token of the mail's link."""
    return Reply(await request.refs.users.ask(VerifyEmail(request.body.token, request.body.password)))


async def refuse(request: HttpRequest[LinkToken, None, IdentityRefs]) -> Reply[None]:
    """Reject a registration or a change of address that somebody else asked for, with the token of the mail's link."""
    await request.refs.users.ask(RefuseEmail(request.body.token))
    return Reply(None, message="The registration or the change has been dropped.")


async def undo(request: HttpRequest[LinkToken, None, IdentityRefs]) -> Reply[User]:
    """Restore an account's earlier address, with the token of the mail that announced the change.

    All sessions end and the password is no longer valid: a mail with a link to choose a new one is on its way.
    """
    user = await request.refs.users.ask(UndoEmailChange(request.body.token))
    return Reply(user, message="The account has this address again. A mail to choose a new password has been sent.")


async def resend(request: HttpRequest[Address, None, IdentityRefs]) -> Reply[None]:
    """Send the verification mail again. The response is the same whether the account exists or not."""
    await request.refs.email_requests.ask(RequestEmail("verify_email", request.body.email))
    return Reply(None, message="If the address has an account to verify, a mail has been sent.")


def user_id_of(request: HttpRequest[Any, Any, IdentityRefs]) -> UUID:
    """Return the user of the path; on a path such as /users/me, the caller."""
    return request.uuid("user_id") if "user_id" in request.path else request.identity.user_id


async def current(request: HttpRequest[Any, Any, IdentityRefs]) -> str:
    """Return the current ETag of an account."""
    return (await request.refs.users.ask(GetUser(user_id_of(request)))).tag


async def read(request: HttpRequest[None, None, IdentityRefs]) -> Reply[User]:
    """Return an account."""
    user = await request.refs.users.ask(GetUser(user_id_of(request)))
    return Reply(user, etag=user.tag)


async def edit(request: HttpRequest[Account, None, IdentityRefs]) -> Reply[User]:
    """Replace an account's name; a new address must be verified first."""
    email = request.body.email
    user = await request.refs.users.ask(
        UpdateUser(user_id_of(request), request.body.full_name, email, request.tag, request.identity.session_id)
    )
    pending = email is not None and email.lower() != user.email.lower()
    message = "The new address takes effect once it is verified: a mail has been sent." if pending else None
    return Reply(user, etag=user.tag, message=message)


async def delete(request: HttpRequest[None, None, IdentityRefs]) -> Reply[None]:
    """Delete an account and end its sessions."""
    await request.refs.users.ask(DeleteUser(user_id_of(request), request.tag, request.identity.session_id))
    return Reply(None)


async def users(request: HttpRequest[None, Filter, IdentityRefs]) -> PageReply[User]:
    """List accounts, newest first."""
    query = request.query
    before, before_id = BY_TIME.decode(query.cursor) if query.cursor else (None, None)
    found = await request.refs.users.ask(
        ListUsers(
            query.limit + 1,
            email=query.email,
            role=query.role,
            is_verified=query.is_verified,
            is_active=query.is_active,
            created_after=query.created_after,
            q=query.q,
            before=before,
            before_id=before_id,
        )
    )
    return BY_TIME.page(found, query.limit, lambda last: (last.created_at, last.user_id))


async def change(request: HttpRequest[UserChange, None, IdentityRefs]) -> Reply[User]:
    """Change an account's role or whether it is active."""
    role, is_active = request.body.role, request.body.is_active
    if role is msgspec.UNSET and is_active is msgspec.UNSET:
        raise Problem(REQUEST_INVALID, details=(FieldError("role", "give role, is_active or both"),))
    changed = await request.refs.users.ask(
        ChangeUser(
            request.uuid("user_id"),
            None if isinstance(role, msgspec.UnsetType) else role,
            None if isinstance(is_active, msgspec.UnsetType) else is_active,
            request.tag,
            request.identity.session_id,
        )
    )
    return Reply(changed)


ROUTES = Routes(
    IdentityRefs,
    Route(
        "POST",
        "/auth/register",
        register,
        summary="Register an account",
        tag="accounts",
        access=Access.PUBLIC,
        status=201,
        limit=REGISTER,
        errors=(USERS_EMAIL_TAKEN,),
        validate=registration_rules,
    ),
    Route(
        "POST",
        "/auth/verify-email",
        verify,
        summary="Verify an address",
        tag="accounts",
        access=Access.PUBLIC,
        errors=(AUTH_MAIL_TOKEN_INVALID, AUTH_PASSWORD_NEEDED, USERS_EMAIL_TAKEN),
    ),
    Route(
        "POST",
        "/auth/verify-email/refuse",
        refuse,
        summary="Reject a registration or a change of address",
        tag="accounts",
        access=Access.PUBLIC,
        errors=(AUTH_MAIL_TOKEN_INVALID,),
    ),
    Route(
        "POST",
        "/auth/undo-email-change",
        undo,
        summary="Undo a change of address",
        tag="accounts",
        access=Access.PUBLIC,
        errors=(AUTH_MAIL_TOKEN_INVALID, USERS_EMAIL_TAKEN),
    ),
    Route(
        "POST",
        "/auth/resend-verification",
        resend,
        summary="Send the verification mail again",
        tag="accounts",
        access=Access.PUBLIC,
        status=202,
        limit=MAIL,
    ),
    Route(
        "GET",
        "/users",
        users,
        summary="List accounts",
        tag="accounts",
        access=Access.ADMIN,
        errors=(REQUEST_CURSOR_INVALID,),
    ),
    Route("GET", "/users/me", read, "Read your account", tag="accounts", access=Access.USER, has_etag=True),
    Route(
        "PUT",
        "/users/me",
        edit,
        summary="Edit your account",
        tag="accounts",
        has_etag=True,
        access=Access.USER,
        errors=(USERS_EMAIL_TAKEN, USERS_STALE, AUTH_STEP_UP_REQUIRED),
        current=current,
    ),
    Route(
        "DELETE",
        "/users/me",
        delete,
        summary="Delete your account",
        tag="accounts",
        access=Access.USER,
        status=204,
        errors=(USERS_LAST_ADMIN, USERS_STALE, AUTH_STEP_UP_REQUIRED),
        current=current,
    ),
    Route(
        "GET",
        "/users/{user_id}",
        read,
        summary="Read an account",
        tag="accounts",
        has_etag=True,
        access=Access.SELF_OR_ADMIN,
        errors=(USERS_NOT_FOUND,),
    ),
    Route(
        "PUT",
        "/users/{user_id}",
        edit,
        summary="Edit an account",
        tag="accounts",
        has_etag=True,
        access=Access.SELF_OR_ADMIN,
        errors=(USERS_NOT_FOUND, USERS_EMAIL_TAKEN, USERS_STALE, AUTH_STEP_UP_REQUIRED),
        current=current,
    ),
    Route(
        "DELETE",
        "/users/{user_id}",
        delete,
        summary="Delete an account",
        tag="accounts",
        access=Access.SELF_OR_ADMIN,
        status=204,
        errors=(USERS_NOT_FOUND, USERS_LAST_ADMIN, USERS_STALE, AUTH_STEP_UP_REQUIRED),
        current=current,
    ),
    Route(
        "PATCH",
        "/users/{user_id}",
        change,
        summary="Change an account's role or whether it is active",
        tag="accounts",
        access=Access.ADMIN,
        errors=(USERS_NOT_FOUND, USERS_LAST_ADMIN, USERS_STALE, AUTH_STEP_UP_REQUIRED),
        current=current,
    ),
)

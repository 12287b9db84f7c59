"""Passwords over HTTP: forgotten, reset and changed."""

from callboard.actors.identity.email_requests import RequestEmail
from callboard.actors.identity.errors import AUTH_ACCOUNT_LIMITED, AUTH_INVALID_CREDENTIALS, AUTH_MAIL_TOKEN_INVALID
from callboard.actors.identity.password_reset import ChangePassword, ResetPassword
from callboard.actors.identity.refs import LOGIN, MAIL, IdentityRefs
from callboard.http.api.users import Address, NewPassword, Password, Secret
from callboard.http.server.request import Body, HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Routes


class Reset(Body, frozen=True, kw_only=True):
    """The token at the end of the link in the mail, and a new password."""

    token: Secret
    new_password: NewPassword


class Change(Body, frozen=True, kw_only=True):
    """The current password and the new one."""

    current_password: Password
    new_password: NewPassword


async def forgot(request: HttpRequest[Address, None, IdentityRefs]) -> Reply[None]:
    """Mail a link to reset the password. Response and time are the same whether the account exists or not."""
    await request.refs.email_requests.ask(RequestEmail("reset_password", request.body.email))
    return Reply(None, message="If the address has an account, a mail has been sent.")


async def reset(request: HttpRequest[Reset, None, IdentityRefs]) -> Reply[None]:
    """Set a new password with the token of the mail's link, and end all sessions."""
    await request.refs.password_reset.ask(ResetPassword(request.body.token, request.body.new_password, request.ip))
    return Reply(None, message="The password is changed; log in with the new one.")


async def change(request: HttpRequest[Change, None, IdentityRefs]) -> Reply[None]:
    """Change your password and end all your other sessions."""
    who = request.identity
    order = ChangePassword(who.user_id, who.session_id, request.body.current_password, request.body.new_password)
    await request.refs.password_reset.ask(order)
    return Reply(None, message="The password is changed, and all other sessions have ended.")


ROUTES = Routes(
    IdentityRefs,
    Route(
        "POST",
        "/auth/password/forgot",
        forgot,
        summary="Request a mail to reset the password",
        tag="passwords",
        access=Access.PUBLIC,
        status=202,
        limit=MAIL,
    ),
    Route(
        "POST",
        "/auth/password/reset",
        reset,
        summary="Reset a forgotten password",
        tag="passwords",
        access=Access.PUBLIC,
        limit=LOGIN,
        errors=(AUTH_MAIL_TOKEN_INVALID,),
    ),
    Route(
        "POST",
        "/auth/password/change",
        change,
        summary="Change your password",
        tag="passwords",
        access=Access.USER,
        errors=(AUTH_INVALID_CREDENTIALS, AUTH_ACCOUNT_LIMITED),
    ),
)

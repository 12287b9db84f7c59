"""Passwords over HTTP: forgotten, reset and changed."""

from callboard.actors.errors import AUTH_ACCOUNT_LIMITED, AUTH_INVALID_CREDENTIALS, AUTH_MAIL_TOKEN_INVALID
from callboard.actors.identity.email_requests import RequestEmail
from callboard.actors.identity.password_reset import ChangePassword, ResetPassword
from callboard.http.api.dependencies import Services
from callboard.http.api.users import Address, NewPassword, Password, Secret
from callboard.http.server.request import Body, HttpRequest, Reply
from callboard.http.server.routing import Access, Route


class Reset(Body, frozen=True, kw_only=True):
    """The secret at the end of the link in the mail, and a new password."""

    token: Secret
    new_password: NewPassword


class Change(Body, frozen=True, kw_only=True):
    """The password that is, and the one that is to be."""

    current_password: Password
    new_password: NewPassword


async def forgot(request: HttpRequest[Address, None, Services]) -> Reply[None]:
    """Mail a link to reset the password; answer and time are the same whether there is such an account or not."""
    await request.services.email_requests.ask(RequestEmail("reset_password", request.body.email))
    return Reply(None, message="If the address has an account, a mail is on its way.")


async def reset(request: HttpRequest[Reset, None, Services]) -> Reply[None]:
    """Use the secret of such a mail, and end all sessions."""
    await request.services.recovery.ask(ResetPassword(request.body.token, request.body.new_password, request.ip))
    return Reply(None, message="The password is changed; log in with the new one.")


async def change(request: HttpRequest[Change, None, Services]) -> Reply[None]:
    """Change one's password, and end all other sessions."""
    who = request.identity
    order = ChangePassword(who.user_id, who.session_id, request.body.current_password, request.body.new_password)
    await request.services.recovery.ask(order)
    return Reply(None, message="The password is changed, and all other sessions have ended.")


ROUTES: tuple[Route[Services], ...] = (
    Route(
        "POST",
        "/auth/password/forgot",
        forgot,
        summary="Ask for a mail to reset the password",
        tag="passwords",
        access=Access.PUBLIC,
        status=202,
        limit="mail",
    ),
    Route(
        "POST",
        "/auth/password/reset",
        reset,
        summary="Reset a forgotten password",
        tag="passwords",
        access=Access.PUBLIC,
        limit="login",
        errors=(AUTH_MAIL_TOKEN_INVALID,),
    ),
    Route(
        "POST",
        "/auth/password/change",
        change,
        summary="Change one's password",
        tag="passwords",
        access=Access.USER,
        errors=(AUTH_INVALID_CREDENTIALS, AUTH_ACCOUNT_LIMITED),
    ),
)

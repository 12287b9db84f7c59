"""Exports over HTTP: asking for all that is kept of oneself, and fetching it by the link in the mail."""

from callboard.actors.errors import AUTH_MAIL_TOKEN_INVALID, AUTH_STEP_UP_REQUIRED
from callboard.actors.exports import Export, FetchExport, RequestExport
from callboard.http.call import Call, Query, Raw, Reply
from callboard.http.routing import Access, Route
from callboard.http.services import Services
from callboard.http.users import Secret

HEADERS = {
    "Content-Disposition": 'attachment; filename="callboard-export.zip"',
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


class Link(Query, frozen=True, kw_only=True):
    """The secret of the link in the mail."""

    token: Secret


async def ask(call: Call[None, None, Services]) -> Reply[Export]:
    """Have one's archive made; a link to it is mailed."""
    export = await call.services.exports.ask(RequestExport(call.identity.user_id, call.identity.session_id))
    return Reply(export, message="A mail with a link is on its way once it is ready.")


async def fetch(call: Call[None, Link, Services]) -> Raw:
    """The archive, for whoever has the link."""
    archive = await call.services.exports.ask(FetchExport(call.query.token))
    return Raw(archive, "application/zip", headers=HEADERS)


ROUTES: tuple[Route[Services], ...] = (
    Route(
        "POST",
        "/users/me/export",
        ask,
        summary="Ask for all that is kept of oneself",
        tag="accounts",
        access=Access.USER,
        status=202,
        limit="mail",
        errors=(AUTH_STEP_UP_REQUIRED,),
    ),
    Route(
        "GET",
        "/exports",
        fetch,
        summary="Fetch an export by its link",
        tag="accounts",
        access=Access.PUBLIC,
        errors=(AUTH_MAIL_TOKEN_INVALID,),
    ),
)

"""Exports over HTTP: request all your data, and download it once with the link in the mail."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from callboard.actors.errors import Problem
from callboard.actors.identity.data_export import DownloadExport, Export, ReadPiece, RequestExport
from callboard.actors.identity.errors import AUTH_MAIL_TOKEN_INVALID, AUTH_STEP_UP_REQUIRED, EXPORTS_LINK_GONE
from callboard.actors.identity.refs import MAIL, IdentityRefs
from callboard.actors.infrastructure.errors import QUOTA_RATE
from callboard.http.api.users import Secret
from callboard.http.server.request import Body, HttpRequest, Query, RawReply, Reply
from callboard.http.server.response import Stream
from callboard.http.server.routing import Access, Deprecation, Route, Routes

HEADERS = {
    "Content-Disposition": 'attachment; filename="callboard-export.zip"',
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
LINK_GONE = Deprecation(
    datetime(2026, 11, 27, tzinfo=UTC),
    sunset=datetime(2027, 6, 1, tzinfo=UTC),
    successor="/api/v1/users/me/export/download",
)


class ExportLink(Body, frozen=True, kw_only=True):
    """The secret at the end of the link in the mail."""

    token: Secret


class OldExportLink(Query, frozen=True, kw_only=True):
    """The query of the links in mails of earlier releases."""

    token: str = ""


async def ask(request: HttpRequest[None, None, IdentityRefs]) -> Reply[Export]:
    """Request an export of your data; a mail brings the link. Its id is also that of a job, which you may follow and
    cancel.
    """
    export = await request.refs.exports.ask(RequestExport(request.identity.user_id, request.identity.session_id))
    return Reply(export, message="You will get a mail with a link when it is ready.")


async def download(request: HttpRequest[ExportLink, None, IdentityRefs]) -> RawReply:
    """Download the archive, once. If the download fails, request another export."""
    exports = request.refs.exports
    archive = await exports.ask(DownloadExport(request.identity.user_id, request.body.token))

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(archive.pieces):
            yield await exports.ask(ReadPiece(archive.export_id, number))

    return RawReply(Stream(archive.size, pieces()), "application/zip", headers=HEADERS)


async def fetch(_call: HttpRequest[None, OldExportLink, IdentityRefs]) -> RawReply:
    """Refuse an export link of an earlier release: a mailbox or a proxy's log may have exposed it."""
    raise Problem(EXPORTS_LINK_GONE)


ROUTES = Routes(
    IdentityRefs,
    Route(
        "POST",
        "/users/me/export",
        ask,
        summary="Request an export of your data",
        tag="accounts",
        access=Access.USER,
        status=202,
        limit=MAIL,
        errors=(AUTH_STEP_UP_REQUIRED, QUOTA_RATE),
    ),
    Route(
        "POST",
        "/users/me/export/download",
        download,
        summary="Download your archive, once",
        tag="accounts",
        access=Access.USER,
        errors=(AUTH_MAIL_TOKEN_INVALID,),
        content_type="application/zip",
    ),
    Route(
        "GET",
        "/exports",
        fetch,
        summary="Refuse export links of an earlier release",
        tag="accounts",
        access=Access.PUBLIC,
        errors=(EXPORTS_LINK_GONE,),
        deprecated=LINK_GONE,
    ),
)

"""The public keys that access tokens are checked with, for whoever wants to check them without asking us."""

import msgspec

from callboard.http.api.dependencies import Services
from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.routing import Access, Route


async def jwks(request: HttpRequest[None, None, Services]) -> RawReply:
    """The key set (RFC 7517); it is empty while tokens are signed with a secret."""
    body = msgspec.json.encode({"keys": request.services.jwks})
    return RawReply(body, "application/jwk-set+json", headers={"Cache-Control": "public, max-age=300"})


ROUTES: tuple[Route[Services], ...] = (
    Route(
        "GET",
        "/.well-known/jwks.json",
        jwks,
        summary="Read the public keys of access tokens",
        tag="sessions",
        access=Access.PUBLIC,
        absolute=True,
        exempt=True,
    ),
)

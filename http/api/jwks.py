"""The public keys that access tokens are checked with, for whoever wants to check them without asking us."""

import msgspec

from callboard.http.api.dependencies import Services
from callboard.http.server.request import Call, Raw
from callboard.http.server.routing import Access, Route


async def jwks(call: Call[None, None, Services]) -> Raw:
    """The key set (RFC 7517); it is empty while tokens are signed with a secret."""
    body = msgspec.json.encode({"keys": call.services.jwks})
    return Raw(body, "application/jwk-set+json", headers={"Cache-Control": "public, max-age=300"})


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

"""The public keys that verify access tokens, for services that verify tokens themselves."""

import msgspec

from callboard.actors.infrastructure.refs import Infrastructure
from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.routing import Access, Route, Routes


async def jwks(request: HttpRequest[None, None, Infrastructure]) -> RawReply:
    """Return the key set (RFC 7517); it is empty while tokens are signed with a shared secret."""
    body = msgspec.json.encode({"keys": request.refs.signer.jwks})
    return RawReply(body, "application/jwk-set+json", headers={"Cache-Control": "public, max-age=300"})


ROUTES = Routes(
    Infrastructure,
    Route(
        "GET",
        "/.well-known/jwks.json",
        jwks,
        summary="Read the public keys of access tokens",
        tag="sessions",
        access=Access.PUBLIC,
        absolute=True,
        skips_limits_and_auth=True,
    ),
)

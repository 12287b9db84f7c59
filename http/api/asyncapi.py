"""The AsyncAPI document of the events of this process's departments, beside /openapi.json."""

import hashlib

from callboard.actors.infrastructure.refs import Declared
from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.routing import Access, Route, Routes
from callboard.streams.asyncapi import asyncapi


async def read(request: HttpRequest[None, None, Declared]) -> RawReply:
    """Return the AsyncAPI 3 document of all events: their topics, keys, headers and data."""
    body = asyncapi(tuple(request.refs.events))
    tag = hashlib.sha256(body).hexdigest()[:16]
    cached = {"Cache-Control": "public, max-age=60"}
    return RawReply(body, "application/json", headers=cached, etag=tag, is_shared=True)


ROUTES = Routes(
    Declared,
    Route(
        "GET",
        "/asyncapi.json",
        read,
        summary="Read the AsyncAPI document of all events",
        tag="events",
        access=Access.PUBLIC,
        absolute=True,
        open_in_maintenance=True,
        has_etag=True,
        content_type="application/json",
    ),
)

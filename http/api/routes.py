"""All our routes of the front door: documents, authorisation and tests are made from them."""

from typing import Any

from callboard.http.api import audit_log, content, exports, flags, jwks, passwords, profiles, sessions, stats, users
from callboard.http.server.routing import Route, Routes

OUR_ROUTES: tuple[Routes[Any], ...] = (
    users.ROUTES,
    profiles.ROUTES,
    exports.ROUTES,
    sessions.ROUTES,
    passwords.ROUTES,
    content.ROUTES,
    stats.ROUTES,
    flags.ROUTES,
    audit_log.ROUTES,
    jwks.ROUTES,
)
ROUTES: tuple[Route[Any], ...] = tuple(route for routes in OUR_ROUTES for route in routes)

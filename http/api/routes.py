"""All routes of the front door, in one table: documents, authorisation and tests are made from it."""

from callboard.http.api import audit_log, content, exports, flags, jwks, passwords, profiles, sessions, stats, users
from callboard.http.api.dependencies import Services
from callboard.http.server.routing import Route

ROUTES: tuple[Route[Services], ...] = (
    *users.ROUTES,
    *profiles.ROUTES,
    *exports.ROUTES,
    *sessions.ROUTES,
    *passwords.ROUTES,
    *content.ROUTES,
    *stats.ROUTES,
    *flags.ROUTES,
    *audit_log.ROUTES,
    *jwks.ROUTES,
)

"""All routes of the front door, in one table: documents, authorisation and tests are made from it."""

from callboard.http import audit_log, content, exports, flags, keys, profiles, recovery, sessions, stats, users
from callboard.http.routing import Route
from callboard.http.services import Services

ROUTES: tuple[Route[Services], ...] = (
    *users.ROUTES,
    *profiles.ROUTES,
    *exports.ROUTES,
    *sessions.ROUTES,
    *recovery.ROUTES,
    *content.ROUTES,
    *stats.ROUTES,
    *flags.ROUTES,
    *audit_log.ROUTES,
    *keys.ROUTES,
)

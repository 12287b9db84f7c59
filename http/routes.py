"""All routes of the front door, in one table: documents, authorisation and tests are made from it."""

from callboard.http import content, keys, sessions, stats, users
from callboard.http.routing import Route
from callboard.http.services import Services

ROUTES: tuple[Route[Services], ...] = (*users.ROUTES, *sessions.ROUTES, *content.ROUTES, *stats.ROUTES, *keys.ROUTES)

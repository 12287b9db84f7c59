"""All routes of the front door, in one table: documents, authorisation and tests are made from it."""

from callboard.actors.passwords import PasswordPolicy
from callboard.http import content, exports, flags, keys, profiles, recovery, sessions, stats, users
from callboard.http.routing import Route
from callboard.http.services import Services


def table(policy: PasswordPolicy) -> tuple[Route[Services], ...]:
    """All routes of a server with this policy of passwords: they differ in what they say of bad ones, and no more."""
    return (
        users.registering(policy),
        *users.ROUTES,
        *profiles.ROUTES,
        *exports.ROUTES,
        *sessions.ROUTES,
        *recovery.ROUTES,
        *content.ROUTES,
        *stats.ROUTES,
        *flags.ROUTES,
        *keys.ROUTES,
    )


ROUTES = table(PasswordPolicy.COMPOSITION)

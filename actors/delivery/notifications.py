"""Notices: the rows of each user."""

from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERSONAL_DATA = PersonalData(
    "notifications",
    {"notifications": ("user_id", "data", "digest_id")},
    QUERIES.export_notifications,
    QUERIES.erase_notifications,
)

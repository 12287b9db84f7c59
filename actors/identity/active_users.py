"""The number of recently active users, counted at intervals for the metrics."""

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.refs import Gauge
from callboard.runtime import Actor, Message, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

INTERVAL_S = 30.0
LATELY_S = 900.0


class CountActiveUsers(Message, frozen=True):
    """Count the active users now."""


class ActiveUsers(Actor[CountActiveUsers]):
    """Counts the users with a session that was used in the last 15 minutes.

    The number is the installation's: every process shows the same one. If PostgreSQL is unavailable the last number
    stays.
    """

    def __init__(self, database: Database, gauge: Gauge) -> None:
        self.database = database
        self.gauge = gauge

    async def on_start(self) -> None:
        """Start to count, after the statements of the process's start."""
        self.after(1.0, CountActiveUsers())
        self.every(INTERVAL_S, CountActiveUsers())

    @on(CountActiveUsers)
    async def count(self, _message: CountActiveUsers) -> None:
        """Count with one statement, over an index."""
        try:
            async with self.database.acquire() as connection:
                self.gauge.value = await QUERIES.count_active_users(connection, lately_s=LATELY_S)
        except Problem:
            return  # PostgreSQL is unavailable or slow, which the database guard reports

"""How many users have been here lately, counted now and then for the metrics."""

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.refs import Gauge
from callboard.runtime import Actor, Message, on
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

INTERVAL_S = 30.0
LATELY_S = 900.0


class CountActiveUsers(Message, frozen=True):
    """Count them now."""


class ActiveUsers(Actor[CountActiveUsers]):
    """Counts the users with a session that was used in the last 15 minutes.

    The number is the installation's: every process shows the same one. While PostgreSQL is away the last one stands.
    """

    def __init__(self, database: Database, gauge: Gauge) -> None:
        self.database = database
        self.gauge = gauge

    async def on_start(self) -> None:
        """Begin to count, when what a start asks of PostgreSQL has been asked."""
        self.after(1.0, CountActiveUsers())
        self.every(INTERVAL_S, CountActiveUsers())

    @on(CountActiveUsers)
    async def count(self, _message: CountActiveUsers) -> None:
        """One statement, over an index."""
        try:
            async with self.database.acquire() as connection:
                self.gauge.value = await QUERIES.count_active_users(connection, lately_s=LATELY_S)
        except Problem:
            return  # PostgreSQL is away or slow, which others tell

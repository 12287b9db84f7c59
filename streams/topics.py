"""The Kafka topics: what each carries, by what key, and for how long a message is still worth acting on.

Names stand here without the installation's prefix, and so they do in the outbox; `full_name` puts it on.
"""

from msgspec import Struct

# An event of ours is published and acted on for as long. Consumers remember ids for a day longer, so an old event that
# somebody writes to Kafka again is either known or expired.
EVENT_LIFE_S = 7 * 86400.0
REMEMBERED_S = EVENT_LIFE_S + 86400.0

_DEAD_LETTERS = ".dlq"


class Topic(Struct, frozen=True):
    """One topic. Messages of one key stay in order; past `deadline_s` (None: never) a message is not acted on."""

    name: str
    key: str
    carries: str
    deadline_s: float | None = None

    @property
    def dead_letters(self) -> str:
        """The name of the topic that tells of this one's dead letters."""
        return self.name + _DEAD_LETTERS


USERS = Topic("users.v1", "user id", "accounts: registered, verified, updated, deleted")
CONTENT = Topic("content.v1", "content id", "articles: created, edited, and every editorial transition")
MAIL = Topic("mail.v1", "recipient", "mail requests, ours and any producer's", deadline_s=3600)
PRIORITY = Topic("priority.v1", "recipient", "security mail: verification, reset, new sign-in", deadline_s=300)
NOTIFICATIONS = Topic("notifications.v1", "user id", "notices to users", deadline_s=1800)
PROCESSING = Topic("processing.v1", "job id", "heavy jobs: exports, bulk imports", deadline_s=6 * 3600)
ACTIVITY = Topic(
    "activity.v1", "subject id", "activity that producers report: page views, reads, any metric with a value"
)
SUBSCRIPTIONS = Topic("subscriptions.v1", "user id", "subscriptions: started, renewed, past due, cancelled, expired")

TOPICS: dict[str, Topic] = {
    topic.name: topic for topic in (USERS, CONTENT, MAIL, PRIORITY, NOTIFICATIONS, PROCESSING, ACTIVITY, SUBSCRIPTIONS)
}


def full_name(prefix: str, topic: Topic | str) -> str:
    """The name on the broker: `callboard.content.v1`."""
    return f"{prefix}.{topic.name if isinstance(topic, Topic) else topic}"


def short_name(prefix: str, name: str) -> str:
    """The name without the prefix: the inverse of `full_name`."""
    return name.removeprefix(prefix + ".")

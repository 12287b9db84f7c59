"""The Kafka topics: the events of each, its key, and the deadline of its messages.

Names are without the installation's prefix, as in the outbox; `full_name` adds it.
"""

from msgspec import Struct

# An event of ours is published and acted on for this time. Consumers remember ids for a day longer, so an old event
# that is written to Kafka again is either known or expired.
EVENT_LIFE_S = 7 * 86400.0
REMEMBERED_S = EVENT_LIFE_S + 86400.0

DEFAULT_PREFIX = "callboard"
_DEAD_LETTERS = ".dlq"


class Topic(Struct, frozen=True):
    """One topic. Messages of one key stay in order; past `deadline_s` (None: never) a message is not acted on."""

    name: str
    key: str
    carries: str
    deadline_s: float | None = None

    @property
    def dead_letters(self) -> str:
        """Return the name of the topic that announces this one's dead letters."""
        return self.name + _DEAD_LETTERS


TOPICS: dict[str, Topic] = {}  # by name, every declared topic of this process


def declare_topic(name: str, key: str, carries: str, deadline_s: float | None = None) -> Topic:
    """Declare a topic. Raises ValueError for a duplicate name."""
    if name in TOPICS:
        raise ValueError(f"the topic {name} is declared twice")
    TOPICS[name] = topic = Topic(name, key, carries, deadline_s)
    return topic


SUBSCRIPTIONS = declare_topic(
    "subscriptions.v1", "user id", "subscriptions: started, renewed, past due, cancelled, expired"
)


def full_name(prefix: str, topic: Topic | str) -> str:
    """Return the name on the broker: `callboard.content.v1`."""
    return f"{prefix}.{topic.name if isinstance(topic, Topic) else topic}"


def short_name(prefix: str, name: str) -> str:
    """Return the name without the prefix: the inverse of `full_name`."""
    return name.removeprefix(prefix + ".")

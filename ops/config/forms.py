"""The forms of a process's settings that numbers and words do not describe."""

import re
from typing import Annotated
from urllib.parse import unquote

from msgspec import Meta

from callboard.actors.settings import Parsed
from callboard.http.server.client_ip import network
from callboard.ops.config import urls

MAX_PORT = 65_535
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
# Kafka takes few characters; in keys of Redis colons part and braces mean something.
_KEY = r"[!#$%&'*+.^_`|~0-9A-Za-z/-]{1,255}"  # of a header or an attribute
_NAME = r"\A[A-Za-z0-9][A-Za-z0-9._-]{%s}\Z"


def parse_origins(text: str) -> tuple[str, ...]:
    """Return origins of pages, as browsers write them, or `*` alone for any. Raises ValueError."""
    given = tuple(word for each in text.split(",") if (word := each.strip()))
    if "*" in given and len(given) > 1:
        raise ValueError("must be origins, or * alone")
    for each in given:
        found = _ORIGIN.fullmatch(each)
        if each != "*" and (found is None or int(found["port"] or 1) not in range(1, MAX_PORT + 1)):
            raise ValueError("must be origins such as https://app.example, in lower case and without a path, or *")
        if found is not None and (found["scheme"], found["port"]) in (("http", "80"), ("https", "443")):
            raise ValueError("must be origins as browsers write them: without the port that their scheme means")
    return given


def parse_replication(text: str) -> int:
    """Return a number of copies; -1 is the broker's default. Raises ValueError."""
    if not re.fullmatch(r"-1|[1-9][0-9]?|100", text):
        raise ValueError("must be -1 (the broker's default), or 1 to 100")
    return int(text)


def parse_pairs(text: str) -> tuple[str, ...]:
    """Return `key=value` of each pair in a list of OpenTelemetry's form, decoded. Raises ValueError."""
    pairs = []
    for each in filter(None, (word.strip() for word in text.split(","))):
        key, separator, value = (unquote(part.strip()) for part in each.partition("="))
        if not separator or not re.fullmatch(_KEY, key) or not value.isprintable():
            raise ValueError("must be key=value, with commas between, and percent-encoded where need be")
        pairs.append(f"{key}={value}")
    return tuple(pairs)


DatabaseUrl = Annotated[str, Parsed(urls.database_url)]
RedisUrl = Annotated[str, Parsed(urls.redis_url)]
Brokers = Annotated[str, Parsed(urls.brokers)]
Network = Annotated[str, Parsed(lambda text: str(network(text)))]
Replication = Annotated[int, Parsed(parse_replication)]
Token = Annotated[
    str,
    Meta(
        pattern=r"\A[!-~]{16,}\Z",
        title="16 characters or more, of ASCII and without spaces: openssl rand -hex 24 makes one",
    ),
]
HostName = Annotated[
    str,
    Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9.-]{0,252}\Z", title="names of hosts without ports, with commas between"),
]
TopicPrefix = Annotated[
    str,
    Meta(
        pattern=_NAME % "0,99",
        title="1 to 100 letters, digits, dots, hyphens and underscores, and begin with no sign",
    ),
]
KeyPart = Annotated[
    str,
    Meta(
        pattern=_NAME % "0,62",
        title="1 to 63 letters, digits, dots, hyphens and underscores, and begin with no sign",
    ),
]

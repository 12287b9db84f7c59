"""Mail producers: the programs that may send mails through Kafka, each with a quota and its allowed recipient domains.

None is configured by default: write access to a topic is not enough to send mail in our name.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from callboard.actors.delivery.events import MailRequested
from callboard.streams.consumers import RejectedError, Rejection
from callboard.streams.event_types import OUR_SOURCE, Envelope
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

PERIODS_S = {"minute": 60, "hour": 3600, "day": 86400}
MAX_QUOTA = 1_000_000_000
_SOURCE_LIMIT = 400
_QUOTA = re.compile(r"(?P<quota>[1-9][0-9]{0,9})/(?P<period>minute|hour|day)")
_DOMAIN = re.compile(r"\*|(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


class MailProducer(Struct, frozen=True):
    """A program, by its `ce_source`: its quota of mails in a period, and the domains that it may write to.

    `example.org` is an exact domain, `*.example.org` any domain below it, and `*` any domain.
    """

    source: str
    quota: int
    period_s: int
    domains: tuple[str, ...]

    def may_write_to(self, address: str) -> bool:
        """Whether an address is in one of the domains."""
        domain = address.rpartition("@")[2].lower()
        return any(
            allowed in ("*", domain) or (allowed.startswith("*.") and domain.endswith(allowed[1:]))
            for allowed in self.domains
        )


def parse_mail_producers(text: str) -> tuple[MailProducer, ...]:
    """Parse producers, separated by lines or semicolons: `SOURCE QUOTA/PERIOD DOMAIN,DOMAIN`.

    Raises ValueError that begins with "must".
    """
    producers: dict[str, MailProducer] = {}
    for line in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        source, _, rule = line.partition(" ")
        if source in producers:
            raise ValueError(f"must name {source} once")
        producers[source] = parse_mail_producer(source, rule)
    return tuple(producers.values())


def parse_mail_producer(source: str, rule: str) -> MailProducer:
    """Parse `QUOTA/PERIOD DOMAIN,DOMAIN` for a source. Raises ValueError that begins with "must"."""
    quota, _, domains = rule.strip().partition(" ")
    matched = _QUOTA.fullmatch(quota)
    names = tuple(name.strip().lower() for name in domains.split(",") if name.strip())
    if not source or len(source) > _SOURCE_LIMIT or source == OUR_SOURCE or re.search(r"[\s;]", source):
        raise ValueError(f"must begin with a ce_source that is not {OUR_SOURCE!r} and has no space or semicolon")
    if matched is None or int(matched["quota"]) > MAX_QUOTA:
        raise ValueError(f"must give {source} a quota such as 500/hour (minute, hour or day)")
    if not names or not all(_DOMAIN.fullmatch(name) for name in names):
        raise ValueError(f"must give {source} the domains of its recipients: example.org,*.example.net, or * for any")
    return MailProducer(source, int(matched["quota"]), PERIODS_S[matched["period"]], names)


class MailProducers:
    """The configured producers. A reload of the configuration replaces them."""

    def __init__(self, producers: Iterable[MailProducer] = ()) -> None:
        self._by_source: dict[str, MailProducer] = {}
        self._exhausted_until: dict[str, float] = {}  # in the loop's time: until then a flood costs no statements
        self.replace(producers)

    @property
    def named(self) -> tuple[MailProducer, ...]:
        """Return all producers."""
        return tuple(self._by_source.values())

    def replace(self, producers: Iterable[MailProducer]) -> None:
        """Replace the producers."""
        self._by_source = {producer.source: producer for producer in producers}
        self._exhausted_until.clear()

    def admit(self, envelope: Envelope) -> Rejection | None:
        """Return the reason to reject a request for a mail; None if it is allowed, or is for one of our own mails."""
        event = envelope.event
        if not isinstance(event, MailRequested):
            return None
        producer = self._by_source.get(envelope.source)
        if producer is None:
            return Rejection("not_allowed", f"MAIL_PRODUCERS does not name the source {envelope.source!r}")
        if not producer.may_write_to(event.to):
            return Rejection("not_allowed", f"{envelope.source!r} may not write to this domain")
        if asyncio.get_running_loop().time() < self._exhausted_until.get(envelope.source, 0.0):
            return _over_quota(producer)
        return None

    async def reserve(self, connection: Any, envelopes: Sequence[Envelope]) -> None:
        """Count the mails of a batch against their producers' quotas, in the caller's transaction.

        Raises RejectedError if a producer is unknown or its mails exceed its quota; then nothing is counted.
        """
        wanted: Counter[str] = Counter()
        for envelope in envelopes:
            if rejection := self.admit(envelope):
                raise RejectedError(rejection)
            if isinstance(envelope.event, MailRequested):
                wanted[envelope.source] += 1
        for source, count in sorted(wanted.items()):  # sorted, so that two batches cannot deadlock
            producer = self._by_source[source]
            facts = {"source": source, "period_s": producer.period_s}
            if await QUERIES.reserve(connection, count=count, quota=producer.quota, **facts) is None:
                if count == 1:
                    left_s = await QUERIES.seconds_left(connection, period_s=producer.period_s)
                    self._exhausted_until[source] = asyncio.get_running_loop().time() + left_s
                raise RejectedError(_over_quota(producer))


def _over_quota(producer: MailProducer) -> Rejection:
    period = next(name for name, seconds in PERIODS_S.items() if seconds == producer.period_s)
    return Rejection("over_quota", f"{producer.source!r} may have {producer.quota} mails sent each {period}")

"""The state of the Kafka cluster: available or not, the same as before or not, and its topics.

Kafka's clients hide the absence of a broker behind endless retries, and none of them notices one that came back empty.
So the relay and the Faust app share a connection of their own, whose end is the signal.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    LeaderNotAvailableError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from callboard.streams.ports import Breaker
from callboard.streams.raw_answers import RawAnswer
from callboard.streams.security import KafkaSecurity
from callboard.streams.topic_metadata import NO_ID, DescribeTopics, TopicState, topic_states
from callboard.streams.topics import TOPICS, full_name

_LOG = logging.getLogger(__name__)
_BEAT_S = 2.0
_REASONS = 10  # reasons that are logged during one wait
_ANSWER_S = 3.0  # a broker that takes longer to list its topics counts as unavailable
_MAKE_S = 15.0  # the time limit to create all topics: a busy cluster needs a while
_REFUSED = frozenset(
    error.errno
    for error in (
        ClusterAuthorizationFailedError,
        InvalidTopicError,
        PolicyViolationError,
        TopicAuthorizationFailedError,
    )
)
_AWAY = (KafkaError, OSError, TimeoutError)


class BrokerLostError(Exception):
    """No broker answers, or the topics differ from those known."""


class KafkaCluster:
    """A cluster by its addresses, `host:port,host:port`, and the topics of one installation on it.

    Missing topics are created with `partitions` and `replication` (-1: the broker's default); existing ones are left
    unchanged. `holds_no_fetch` says that the broker answers an empty fetch only at its time limit, even if a record
    arrives meanwhile; `cpu_time` returns the nanoseconds for which such a broker has run, or None. `topics_changed` is
    called when the topics differ from those known: a broker that cannot begin them anew has to be replaced.
    """

    def __init__(
        self,
        addresses: str,
        prefix: str,
        *,
        breaker: Breaker,
        partitions: int = 4,
        replication: int = -1,
        security: KafkaSecurity | None = None,
        holds_no_fetch: bool = False,
        cpu_time: Callable[[], int | None] = lambda: None,
        topics_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.security = security or KafkaSecurity()
        self.holds_no_fetch = holds_no_fetch
        self.cpu_time = cpu_time
        self._topics_changed = topics_changed
        self._breaker = breaker
        self.addresses = [address.strip() for address in addresses.split(",")]
        self.bootstrap = self.addresses  # the one that answered last: aiokafka waits 40 s for one that is silent
        self.prefix = prefix
        self.topics = [
            full_name(prefix, name) for topic in TOPICS.values() for name in (topic.name, topic.dead_letters)
        ]
        self.unusable: dict[str, str] = {}  # topics by their full names, with the reason
        self.why_lost = ""  # while a task waits for the cluster
        self._watch: asyncio.Task[None] | None = None  # one for all who watch at the same time
        self._watchers = 0
        self._lost = ""  # why the watch is to end
        self._partitions = partitions
        self._replication = replication

    @property
    def group(self) -> str:
        """Return the consumer group that reads this installation's topics."""
        return f"{self.prefix}-streams"

    async def wait(self, who: str) -> None:
        """Return when a broker answers and has every topic. Each reason why `who` waits is logged once, and the end."""
        told: set[str] = set()
        while True:
            try:
                await self._ensure_topics()
            except (*_AWAY, BrokerLostError) as error:
                self.why_lost = str(error) or type(error).__name__
                if self.why_lost not in told and len(told) < _REASONS:
                    _LOG.warning("%s waits for the broker: %s", who, self.why_lost)
                    told.add(self.why_lost)
                self._breaker.failed(self._breaker.clock(), self.why_lost)
                await self._breaker.until_probe()
            else:
                if told:
                    _LOG.info("%s is connected to the broker again", who)
                self.why_lost = ""
                self._breaker.close()
                return

    async def reach(self) -> None:
        """Find a broker that answers, as the first address for clients. Raises BrokerLostError."""
        connection, _ = await self._connect()
        connection.close()

    async def watch(self) -> None:
        """Run until the cluster is lost, or its topics have changed; then raise BrokerLostError.

        One broker of several may stop: the watch moves on to the next.
        """
        if self._watch is None or self._watch.done():
            self._watch, self._watchers = asyncio.create_task(self._follow()), 0
        watch = self._watch
        self._watchers += 1
        try:
            await asyncio.shield(watch)
        finally:
            if watch is self._watch:
                self._watchers -= 1
                if not self._watchers:
                    watch.cancel()

    def lose(self, why: str) -> None:
        """End the watch with BrokerLostError: a reader found out earlier."""
        if self._watch is not None and not self._watch.done():
            self._topics_changed()
            self._lost = why
            self._watch.cancel()

    async def _follow(self) -> None:
        """Hold a connection to one broker after another, and ask it for the topics at intervals."""
        self._lost = ""
        gone: str | None = None
        known: dict[str, TopicState] = {}  # of this watch alone: one before it may have seen a change earlier
        try:
            while True:
                connection, gone = await self._connect(without=gone)
                try:
                    await self._hold(connection, known)
                finally:
                    connection.close()
        except asyncio.CancelledError:
            if self._lost:
                raise BrokerLostError(self._lost) from None
            raise

    async def _connect(self, *, without: str | None = None) -> tuple[AIOKafkaConnection, str]:
        why = "the only address is the one that was lost"
        for address in dict.fromkeys((*self.bootstrap, *self.addresses)):
            if address == without:
                continue
            host, _, port = address.rpartition(":")
            options = self.security.client_options()
            connecting = create_conn(host.strip("[]"), int(port), request_timeout_ms=int(_ANSWER_S * 1000), **options)
            try:
                connection = await asyncio.wait_for(connecting, _ANSWER_S)
            except _AWAY as error:
                why = str(error) or type(error).__name__
            else:
                self.bootstrap = [address]
                return connection, address
        raise BrokerLostError(f"no broker responds at {', '.join(self.addresses)}: {why}")

    async def _hold(self, connection: AIOKafkaConnection, known: dict[str, TopicState]) -> None:
        """Return when the connection ends or does not answer; raise BrokerLostError if a topic has changed."""
        closed, ask, seen = asyncio.Event(), RawAnswer(DescribeTopics(self.topics)), b""
        # create_conn takes this callback too, but also calls it for a connection that was never open
        connection._on_close_cb = lambda *_: closed.set()  # noqa: SLF001 - guarded by tests/streams/test_faust_transport.py
        while connection.connected() and not closed.is_set():
            try:
                answer = await connection.send(ask)
            except _AWAY:
                return
            if answer != seen:
                seen, found = answer, topic_states(ask.read(answer))
                for name in self.unusable:  # the current topics are the known ones
                    known.setdefault(name, found.get(name, TopicState(0, 0)))
                try:
                    compare_topics(known, found)
                except BrokerLostError:
                    self._topics_changed()
                    raise
            beat = asyncio.ensure_future(closed.wait())
            try:
                await asyncio.wait({beat}, timeout=_BEAT_S)
            finally:
                beat.cancel()

    async def _ensure_topics(self) -> None:
        """Create the missing topics. Raises one of `_AWAY`, or BrokerLostError, if that is not possible now.

        A topic that we may not read or create is `unusable`, and does not delay the others.
        """
        connection, _ = await self._connect()  # the admin client takes seconds to find this out
        unusable: dict[str, str] = {}
        try:
            while True:  # a topic that was just created is not known at once
                found = topic_states(await asyncio.wait_for(connection.send(DescribeTopics(self.topics)), _ANSWER_S))
                unusable |= {name: for_code(code).__name__ for name, (code, *_) in found.items() if code in _REFUSED}
                unknown = {name for name, (code, *_) in found.items() if code == UnknownTopicOrPartitionError.errno}
                if unknown <= unusable.keys():
                    break
                unusable |= await self._make(sorted(unknown - unusable.keys()))
        finally:
            connection.close()
        for name, why in unusable.items():
            if self.unusable.get(name) != why:
                _LOG.warning("the topic %s cannot be used: %s", name, why)
        self.unusable = unusable

    async def _make(self, names: Sequence[str]) -> dict[str, str]:
        """Create topics; return those that we may not create, with the reason. Raises one of `_AWAY`."""
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self.bootstrap,
            request_timeout_ms=int(_ANSWER_S * 1000),
            **self.security.client_options(),
        )
        refused: dict[str, str] = {}
        try:
            await asyncio.wait_for(admin.start(), _ANSWER_S)
            made = await asyncio.wait_for(admin.create_topics([self._new_topic(name) for name in names]), _MAKE_S)
            for name, code, *_ in made.topic_errors:
                if code in _REFUSED:
                    refused[name] = for_code(code).__name__
                elif code not in (0, TopicAlreadyExistsError.errno):  # another process may have been faster
                    raise for_code(code)
        finally:
            await admin.close()
        return refused

    def _new_topic(self, name: str) -> NewTopic:
        topic = NewTopic(name, self._partitions, 1)
        topic.replication_factor = self._replication  # its constructor refuses -1, which the protocol allows
        return topic


def compare_topics(known: dict[str, TopicState], found: Mapping[str, TopicState]) -> None:
    """Raise BrokerLostError for the first topic that was deleted, was created, or has another number of partitions.

    New topics of `found` are added to the known.
    """
    for name, now in found.items():
        if now.code == UnknownTopicOrPartitionError.errno and not (name in known and known[name].code):
            raise BrokerLostError(f"the broker has no topic {name}")
        if now.code == LeaderNotAvailableError.errno:
            continue
        before = known.setdefault(name, now)
        if before.code != now.code:
            raise BrokerLostError(f"the topic {name} {'cannot' if now.code else 'can'} be used now")
        if before.topic_id != now.topic_id and NO_ID not in (before.topic_id, now.topic_id):
            raise BrokerLostError(f"the topic {name} was deleted and created again")
        if before.partitions != now.partitions:
            raise BrokerLostError(f"the topic {name} has {now.partitions} partitions now, and had {before.partitions}")

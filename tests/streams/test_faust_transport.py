"""The private names of Faust, mode and aiokafka that streams/ touches: a new version that moves one fails here."""

import asyncio
import inspect
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import TopicPartitionState
from faust import App
from faust.tables.manager import TableManager
from faust.transport import consumer
from faust.transport.drivers import aiokafka as stock
from kit.certificates import server_context
from mode.utils.queues import ThrowableQueue

from callboard.streams import faust_transport


@pytest.mark.parametrize(
    ("package", "pinned"), [("faust-streaming", "0.15.3"), ("mode-streaming", "0.7.1"), ("aiokafka", "0.14.0")]
)
def test_the_packages_are_those_that_the_driver_was_written_for(package: str, pinned: str) -> None:
    assert version(package) == pinned


@pytest.mark.parametrize(
    ("ours", "stock_class"),
    [
        (faust_transport._ConsumerThread, stock.AIOKafkaConsumerThread),
        (faust_transport._Consumer, stock.Consumer),
        (faust_transport._Producer, stock.Producer),
        (faust_transport.App, App),
        (faust_transport._NoTables, TableManager),
    ],
)
def test_every_method_that_is_overridden_is_there_and_takes_the_same(ours: type, stock_class: type) -> None:
    own = {
        "mark_processed",
        "register",
        "streams_of",
        "crashed_with",
        "broker_timeout_s",
        "_close_connections",
        "_uncommitted",
        "partition_refused",
        "__init__",
        "__doc__",
        "__module__",
    }
    for name, method in vars(ours).items():
        if name in own or not inspect.isfunction(method):
            continue
        assert hasattr(stock_class, name), name
        theirs = inspect.signature(getattr(stock_class, name)).parameters
        assert list(inspect.signature(method).parameters) == list(theirs), name
        assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(getattr(stock_class, name)), name


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (
            AIOKafkaConsumer,
            ["_fetch_max_wait_ms", "_isolation_level", "_client", "_coordinator", "_closed", "_fetcher"],
        ),
        (
            Fetcher,
            ["self._proc_fetch_request(assignment, node_id, request)", "await self._client.send(node_id, request)"],
        ),
        (
            Fetcher,
            [
                "backoff = self._fetcher_timeout",
                "self._fetch_max_wait_ms,",
                "_records",
                "_retry_backoff",
                "_prefetch_backoff",
                "_default_reset_strategy",
                "part_data[-1]",
            ],
        ),
        (FetchResult, ["for msg in self._partition_records", "self._partition_records.next_fetch_offset"]),
        (TopicPartitionState, ["def pause", "def resume", "def await_reset", "has_valid_position", "highwater", "lso"]),
        (AIOKafkaProducer, ["_closed", "_sender", "client"]),
        (AIOKafkaClient, ["close", "bootstrap", "force_metadata_update", "get_random_node", "coordinator_lookup"]),
        (GroupCoordinator, ["generation", "self.generation > 0 and self._group_instance_id is None"]),
        (TableManager, ["_update_channels", "recovery"]),
        (
            AIOKafkaConnection,
            [
                "request.prepare(self._versions)",
                "request_struct.encode()",
                "request.RESPONSE_TYPE",
                "resp_type.decode(resp)",
            ],
        ),
        (AIOKafkaConnection, ["_on_close_cb", "connected", "send", "close"]),
        (
            consumer.Consumer,
            ["_read_offset", "_unacked_messages", "_committed_offset", "_should_commit", "_commit_tps"],
        ),
        (App, ["_crashed", "crash_reason", "consumer_generation_id"]),
        (stock.AIOKafkaConsumerThread, ["_consumer", "self._close_thread_loop_on_stop"]),
        (ThrowableQueue, ["pressure_high_ratio", "pressure_high_size"]),
    ],
)
def test_every_private_name_that_is_touched_is_there(where: type, names: list[str]) -> None:
    source = "".join(
        inspect.getsource(each)
        for each in where.__mro__
        if each.__module__ != "builtins"
        and each is not object
        and "typing" not in each.__module__
        and "abc" not in each.__module__
    )
    for name in names:
        assert name in source, name


def accept(listener: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
    """Accept one connection, and stand still: nobody reads what it gets."""
    accepted, _ = listener.accept()
    if context is None:
        return accepted
    return socket.socket(fileno=context.wrap_socket(accepted, server_side=True).detach())


@pytest.mark.parametrize(("over_tls", "unsent"), [(True, 0), (False, 20_000_000)], ids=["TLS", "unsent bytes"])
def test_the_loop_of_a_thread_leaves_no_connection_to_a_broker_that_stands_still(
    tmp_path: Path, *, over_tls: bool, unsent: int
) -> None:
    server, client = server_context(tmp_path) if over_tls else (None, None)
    loop = faust_transport._ThreadLoop()

    async def connect_and_close() -> None:
        transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname(), ssl=client)
        transport.write(bytes(unsent))
        transport.close()

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as apart:
        accepted = apart.submit(accept, listener, server)
        loop.run_until_complete(connect_and_close())
        loop.close()
        with accepted.result() as broker, suppress(ConnectionResetError):
            broker.settimeout(20)  # of a socket that nobody closes
            while broker.recv(1 << 20):
                pass

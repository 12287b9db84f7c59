"""The recorder, and the export of its spans to a real receiver of OTLP over HTTP."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.abc import MetaPathFinder
from typing import Any

import pytest
from kit.otlp import Receiver, partial_success, receiving
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from callboard.ops import trace_export
from callboard.ops.config.configuration import ConfigError, load
from callboard.ops.config.settings import Config
from callboard.ops.embedded.data_directory import free_ports
from callboard.ops.trace_export import SpanEncoder, TraceExporter
from callboard.ops.tracing import Tracing
from callboard.runtime import Context, Props, Span, SpanKind, System, begin_span, supervisor, use_context, worker

LOW, HIGH = f"{'f' * 16}{'0' * 16}", f"{'0' * 16}{'f' * 16}"
PARENT = f"00-{'1' * 32}-{'2' * 16}-01"
NEEDED = {
    "DATABASE_URL": "postgresql://db/callboard",
    "REDIS_URL": "redis://cache",
    "KAFKA_BROKERS": "broker:9092",
    "SMTP_HOST": "mail",
    "JWT_SECRET_KEY": "x" * 32,
}


def configured(**environ: str) -> Config:
    return load({**NEEDED, **{f"OTEL_{name.upper()}": value for name, value in environ.items()}}).process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@asynccontextmanager
async def exporting(url: str, **environ: str) -> AsyncIterator[Tracing]:
    config = configured(exporter_otlp_endpoint=url, bsp_schedule_delay="10", **environ)
    tracing = Tracing(config)
    async with System(supervisor("root", worker("traces", Props(TraceExporter, tracing, config)))):
        yield tracing


def work(name: str = "work", error: BaseException | None = None, **attributes: Any) -> None:
    with use_context(Context(PARENT)):
        span = begin_span(name, SpanKind.CLIENT, attributes)
    assert span is not None
    span.end(error)


async def eventually(receiver: Receiver, count: int) -> None:
    await asyncio.to_thread(receiver.wait_for, lambda: len(receiver.spans) >= count)


# Sampling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "share", "new", "continued"),
    [
        ("always_on", "0", (True, True), (True, True)),
        ("always_off", "1", (False, False), (False, False)),
        ("traceidratio", "0.5", (True, False), (True, False)),
        ("parentbased_always_on", "0", (True, True), (False, True)),
        ("parentbased_always_off", "1", (False, False), (False, True)),
        ("parentbased_traceidratio", "0.5", (True, False), (False, True)),
        ("parentbased_traceidratio", "0", (False, False), (False, True)),
    ],
)
def test_a_sampler_decides_by_the_trace_and_by_its_parent(
    sampler: str, share: str, new: tuple[bool, bool], continued: tuple[bool, bool]
) -> None:
    tracing = Tracing(configured(traces_sampler=sampler, traces_sampler_arg=share))
    assert (tracing.samples(LOW, None), tracing.samples(HIGH, None)) == new
    assert (tracing.samples(LOW, "00"), tracing.samples(HIGH, "01")) == (
        (continued[0], continued[1]) if tracing.follows else new
    )


def test_opentelemetrys_own_sampler_decides_alike() -> None:
    theirs, ours = TraceIdRatioBased(0.3), Tracing(configured(traces_sampler="traceidratio", traces_sampler_arg="0.3"))
    for number in range(1, 1 << 128, 1 << 118):
        trace_id = (number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (1 << 128)
        decision = theirs.should_sample(None, trace_id, "any").decision is Decision.RECORD_AND_SAMPLE
        assert ours.samples(f"{trace_id:032x}", None) == decision


# Settings -----------------------------------------------------------------------------------------------------------


def test_without_an_endpoint_or_disabled_there_are_no_traces() -> None:
    assert configured().traces_url == ""
    assert configured(exporter_otlp_endpoint="http://collector:4318", sdk_disabled="true").traces_url == ""


def test_the_endpoint_is_the_base_and_the_one_for_traces_is_whole() -> None:
    assert configured(exporter_otlp_endpoint="http://collector:4318/").traces_url == "http://collector:4318/v1/traces"
    both = configured(exporter_otlp_endpoint="http://a", exporter_otlp_traces_endpoint="https://b/in")
    assert both.traces_url == "https://b/in"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exporter_otlp_endpoint", "collector:4318"),
        ("exporter_otlp_endpoint", "http://user:secret@collector:4318"),
        ("exporter_otlp_headers", "Authorization"),
        ("exporter_otlp_headers", "Authorization=a%0d%0aX: b"),
        ("exporter_otlp_protocol", "grpc"),
        ("traces_sampler", "sometimes"),
        ("traces_sampler_arg", "1.5"),
        ("traces_sampler_arg", "nan"),
        ("bsp_max_queue_size", "0"),
        ("resource_attributes", "=x"),
    ],
)
def test_a_bad_value_is_an_error_that_names_its_variable_and_not_its_value(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(**{name: value})
    assert f"OTEL_{name.upper()}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_without_the_packages_an_endpoint_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(MetaPathFinder):
        def find_spec(self, name: str, *_: Any) -> None:
            if name.startswith("opentelemetry"):
                raise ModuleNotFoundError(name)

    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(ConfigError, match=r"pip install 'callboard\[otel\]'"):
        configured(exporter_otlp_endpoint="http://collector:4318")
    assert configured().traces_url == ""


# The export ---------------------------------------------------------------------------------------------------------


async def test_a_span_arrives_with_its_trace_its_times_its_attributes_and_its_process(receiver: Receiver) -> None:
    async with exporting(
        receiver.url,
        exporter_otlp_headers="Authorization=Bearer%20key,X-Scope=1",
        resource_attributes="deployment.region=eu%2Cwest,service.name=ignored",
        service_name="board",
    ):
        work("DB SELECT users", **{"db.system": "postgresql"})
        await eventually(receiver, 1)
    (span,) = receiver.spans
    assert (span.name, span.kind, span.trace_id, span.parent_id) == ("DB SELECT users", "client", "1" * 32, "2" * 16)
    assert span.attributes == {
        "db.system": "postgresql",
        "trace.id": span.trace_id,
        "span.id": span.span_id,
        "service.name": "board",
    }
    assert 0 < span.started_ns <= span.ended_ns
    assert not span.is_error
    assert span.resource["service.name"] == "board"
    assert span.resource["deployment.region"] == "eu,west"
    (headers,) = receiver.requests
    assert receiver.paths == ["/v1/traces"]
    assert headers["content-type"] == "application/x-protobuf"
    assert (headers["authorization"], headers["x-scope"], headers["content-encoding"]) == ("Bearer key", "1", "gzip")


async def test_an_error_is_its_type(receiver: Receiver) -> None:
    async with exporting(receiver.url, exporter_otlp_compression="none"):
        work(error=LookupError("ada@example.org"))
        await eventually(receiver, 1)
    assert receiver.spans[0].is_error
    assert receiver.spans[0].attributes["error.type"] == "LookupError"
    assert "ada@" not in repr(receiver.spans)
    assert "content-encoding" not in receiver.requests[0]


async def test_batches_have_their_size_and_lose_nothing(receiver: Receiver) -> None:
    async with exporting(receiver.url, bsp_max_export_batch_size="100", bsp_max_queue_size="1000") as tracing:
        for number in range(730):
            work(f"work {number}")
        await eventually(receiver, 730)
    assert [span.name for span in receiver.spans] == [f"work {number}" for number in range(730)]
    assert len(receiver.requests) == 8
    assert tracing.counts == {"recorded": 730, "sent": 730, "dropped": 0, "refused": 0}


async def test_what_is_left_is_sent_at_the_stop(receiver: Receiver) -> None:
    config = configured(exporter_otlp_endpoint=receiver.url, bsp_schedule_delay="3600000")
    tracing = Tracing(config)
    async with System(supervisor("root", worker("traces", Props(TraceExporter, tracing, config)))):
        work()
    assert len(receiver.spans) == 1
    with use_context(Context(PARENT)):
        assert begin_span("late") is None, "nobody would export it"


async def test_with_the_receiver_away_the_queue_stays_bounded_and_the_log_has_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_export, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(trace_export, "LAST_WAIT_S", 0.005)
    (port,) = free_ports(1)
    caplog.set_level(logging.INFO, "callboard.ops.trace_export")
    failures = 0
    post = TraceExporter._post

    async def counted(self: TraceExporter, body: bytes, size: int) -> int:
        nonlocal failures
        try:
            return await post(self, body, size)
        except trace_export.NotNowError:
            failures += 1
            if failures == 5:
                tried.set()
            raise

    tried = asyncio.Event()
    monkeypatch.setattr(TraceExporter, "_post", counted)
    async with exporting(
        f"http://127.0.0.1:{port}", bsp_max_queue_size="20", bsp_max_export_batch_size="10"
    ) as tracing:
        for number in range(100):
            work(f"work {number}")
        await tried.wait()
        assert len(tracing.queue) == 10
        assert tracing.counts["dropped"] == 80
        with receiving(port) as receiver:
            await eventually(receiver, 20)
            assert [span.name for span in receiver.spans] == [f"work {number}" for number in range(20)]
    assert tracing.counts == {"recorded": 20, "sent": 20, "dropped": 80, "refused": 0}
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "OTEL_EXPORTER_OTLP_ENDPOINT accepts no traces: ClientConnectorError",
        "traces are accepted again",
    ]


async def test_a_receiver_that_is_busy_gets_the_same_spans_when_it_says(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds:
            slept.append(seconds)
        await real(0)

    real = asyncio.sleep
    monkeypatch.setattr(trace_export.asyncio, "sleep", sleep)
    receiver.answer = lambda number: (503, {"Retry-After": "7"}, b"") if number < 3 else (200, {}, b"")
    async with exporting(receiver.url) as tracing:
        work()
        await eventually(receiver, 1)
    assert slept == [7.0, 7.0]
    assert tracing.counts["sent"] == 1


async def test_what_a_receiver_refuses_for_good_is_counted_and_not_sent_again(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [(401, {}, b""), (200, {}, partial_success(1, "too old")), (200, {}, b"no protobuf \xff"), (200, {}, b"")]
    receiver.answer = lambda number: answers[min(number, len(answers)) - 1]
    async with exporting(receiver.url) as tracing:
        for _ in answers:
            work()
            count = len(receiver.requests)
            await asyncio.to_thread(receiver.wait_for, lambda count=count: len(receiver.requests) > count)
    assert tracing.counts == {"recorded": 4, "sent": 2, "dropped": 0, "refused": 2}
    assert [record.getMessage().partition("traces: ")[2] for record in caplog.records] == [
        "status 401",
        "some refused: too old",
    ]


def test_encoding_in_pieces_is_encoding_at_once() -> None:
    encoder = SpanEncoder(configured())
    spans = [Span(f"work {n}", SpanKind.INTERNAL, PARENT, None, 1, {}, ended_ns=2) for n in range(3)]
    whole = ExportTraceServiceRequest.FromString(encoder.encode(spans[:1]) + encoder.encode(spans[1:]))
    names = [span.name for each in whole.resource_spans for scope in each.scope_spans for span in scope.spans]
    assert names == ["work 0", "work 1", "work 2"]


def test_long_texts_are_cut() -> None:
    span = Span("n" * 1000, SpanKind.INTERNAL, PARENT, None, 1, {"text": "x" * 1000}, ended_ns=2)
    readable = SpanEncoder(configured()).readable(span)
    assert len(readable.name) == trace_export.MAX_VALUE
    assert len(str((readable.attributes or {})["text"])) == trace_export.MAX_VALUE

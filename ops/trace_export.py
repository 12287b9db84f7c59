"""The export of spans by OTLP over HTTP: an actor that posts batches, on the one event loop and without a thread.

This module alone imports OpenTelemetry: for its form of spans, of resources, and its encoder.
"""

import asyncio
import logging
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from random import uniform

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar
from google.protobuf.message import DecodeError
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from callboard.ops.config.settings import Config
from callboard.ops.tracing import Tracing
from callboard.runtime import Actor, Span, SpanKind, install_recorder

BATCH = 64  # spans encoded in one turn of the loop: 3 ms
FIRST_WAIT_S, LAST_WAIT_S = 1.0, 60.0
LAST_EXPORT_S = 1.0  # at the stop
MAX_ANSWER = 64 << 10
MAX_VALUE = 256  # characters of an attribute
MAX_SHOWN = 200  # characters of a receiver's words
PASSING = frozenset({429, 502, 503, 504})  # statuses after which the same batch is sent again (OTLP 1.5)
GZIP = 16 | zlib.MAX_WBITS
FROM_AFAR = (SpanKind.SERVER, SpanKind.CONSUMER)

log = logging.getLogger(__name__)


class NotNowError(Exception):
    """The receiver is away, or is too busy: the batch is sent again, after `wait_s` if the receiver has said so."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class TraceExporter(Actor[None]):
    """Sends what the recorder holds, a batch at a time; while it runs, spans are recorded.

    A receiver that is away is tried again after 1 s, then twice as long each time, a minute at most.
    """

    def __init__(self, tracing: Tracing, config: Config) -> None:
        self.tracing = tracing
        self.url = config.traces_url
        self.delay_s = config.otel_bsp_schedule_delay / 1000
        self.timeout_s = min(config.otel_exporter_otlp_timeout, config.otel_bsp_export_timeout) / 1000
        self.encoder = SpanEncoder(config)
        self.headers = {"Content-Type": "application/x-protobuf", **_pairs(config.otel_exporter_otlp_headers)}
        self.packs = config.otel_exporter_otlp_compression == "gzip"
        if self.packs:
            self.headers["Content-Encoding"] = "gzip"
        self.batch: list[Span] = []  # taken, and not answered yet
        self.sending: asyncio.Task[None] | None = None
        self.session: ClientSession | None = None
        self.reason = ""  # of the last failure, so that each is logged once

    async def on_start(self) -> None:
        """Begin to record."""
        timeout = ClientTimeout(total=self.timeout_s)
        self.session = ClientSession(timeout=timeout, cookie_jar=DummyCookieJar(), auto_decompress=False)
        install_recorder(self.tracing)

    async def run(self) -> None:
        """Export whenever a batch is full, or has waited for the delay."""
        waits = 0
        while True:
            if not self.batch and len(self.tracing.queue) < self.tracing.batch:
                self.tracing.is_due.clear()
                await _wait(self.tracing.is_due, self.delay_s)
            try:
                await self.export()
                waits = 0
            except NotNowError as failure:
                self._tell(str(failure))
                longest = min(LAST_WAIT_S, FIRST_WAIT_S * 2**waits)
                waits = min(waits + 1, 16)
                await asyncio.sleep(failure.wait_s or longest * uniform(0.8, 1.0))  # noqa: S311 - no secret

    async def export(self) -> None:
        """Send one batch, if there is any. Raises NotNowError, and keeps the batch, if it is to be sent again.

        A cancelled call leaves a batch on its way; the next call waits for it.
        """
        if self.sending is None or self.sending.done():
            self.sending = asyncio.ensure_future(self._export())
        await asyncio.shield(self.sending)

    async def _export(self) -> None:
        self.batch = self.batch or self.tracing.take()
        if not self.batch:
            return
        size = len(self.batch)
        refused = await self._post(await self._body(self.batch), size)
        self.batch = []
        self.tracing.counts["sent"] += size - refused
        self.tracing.counts["refused"] += refused
        if self.reason and not refused:
            log.info("traces are accepted again")
            self.reason = ""

    async def _body(self, spans: Sequence[Span]) -> bytes:
        """Encode spans, in pieces: requests of one kind that stand one behind the other are one request."""
        pieces = []
        for first in range(0, len(spans), BATCH):
            pieces.append(self.encoder.encode(spans[first : first + BATCH]))
            await asyncio.sleep(0)
        body = b"".join(pieces)
        if not self.packs:
            return body
        packer = zlib.compressobj(1, zlib.DEFLATED, GZIP)
        return packer.compress(body) + packer.flush()

    async def _post(self, body: bytes, size: int) -> int:
        """Send a body; return how many of its spans were refused for good. Raises NotNowError."""
        assert self.session is not None  # noqa: S101 - it is made at the start
        try:
            async with self.session.post(self.url, data=body, headers=self.headers, allow_redirects=False) as answer:
                said = await answer.content.read(MAX_ANSWER)
        except (ClientError, OSError, TimeoutError) as error:  # their texts have the address
            raise NotNowError(f"{type(error).__name__}") from error
        if answer.status in PASSING:
            raise NotNowError(f"status {answer.status}", _retry_after_s(answer.headers.get("Retry-After")))
        if not answer.ok:
            self._tell(f"status {answer.status}")
            return size
        return min(size, self._partly_refused(said))

    def _partly_refused(self, said: bytes) -> int:
        try:
            partial = ExportTraceServiceResponse.FromString(said).partial_success
        except DecodeError:  # it has said 200, whatever else it says
            return 0
        if partial.rejected_spans:
            self._tell(f"some refused: {partial.error_message[:MAX_SHOWN]}")
        return max(0, int(partial.rejected_spans))

    def _tell(self, reason: str) -> None:
        """Log why traces do not arrive, unless the last reason was the same."""
        if reason != self.reason:
            self.reason = reason
            log.warning("OTEL_EXPORTER_OTLP_ENDPOINT accepts no traces: %s", reason)

    async def on_stop(self) -> None:
        """Record no more; send what waits, for a second at most."""
        install_recorder(None)
        try:
            async with asyncio.timeout(LAST_EXPORT_S):
                while self.batch or self.tracing.queue:
                    await self.export()
        except (NotNowError, TimeoutError):
            left = len(self.batch) + len(self.tracing.queue)
            log.warning("%d spans were not exported", left)
        finally:
            if self.sending is not None:
                self.sending.cancel()
            if self.session is not None:
                await self.session.close()


class SpanEncoder:
    """Encodes spans of this process, whose resource it knows."""

    def __init__(self, config: Config) -> None:
        service = config.otel_service_name or config.service_name
        told = {"deployment.environment.name": config.environment, **_pairs(config.otel_resource_attributes)}
        self.service = service if config.otel_service_name else str(told.get("service.name", service))
        self.resource = Resource.create({**told, "service.name": self.service})
        self.scope = InstrumentationScope("callboard", version("callboard"))

    def encode(self, spans: Sequence[Span]) -> bytes:
        """Return them as an ExportTraceServiceRequest."""
        return bytes(encode_spans([self.readable(span) for span in spans]).SerializeToString())

    def readable(self, span: Span) -> ReadableSpan:
        """Return a span in OpenTelemetry's form, with the design's attributes."""
        _, trace_id, span_id, _ = span.traceparent.split("-", 3)
        parent = None
        if span.parent_id is not None:
            parent = _context(trace_id, span.parent_id, is_remote=span.kind in FROM_AFAR)
        own = {"trace.id": trace_id, "span.id": span_id, "service.name": self.service}
        shown = {key: each[:MAX_VALUE] if isinstance(each, str) else each for key, each in span.attributes.items()}
        return ReadableSpan(
            name=span.name[:MAX_VALUE],
            context=_context(trace_id, span_id, is_remote=False),
            parent=parent,
            resource=self.resource,
            attributes={**shown, **own, **({"error.type": span.error} if span.error else {})},
            kind=api.SpanKind[span.kind.upper()],
            instrumentation_scope=self.scope,
            status=api.Status(api.StatusCode.ERROR, span.error) if span.error else api.Status(),
            start_time=span.started_ns,
            end_time=span.ended_ns,
        )


def _context(trace_id: str, span_id: str, *, is_remote: bool) -> api.SpanContext:
    return api.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, api.TraceFlags(api.TraceFlags.SAMPLED))


def _pairs(given: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (each.partition("=") for each in given)}


def _retry_after_s(text: str | None) -> float | None:
    return min(float(text), LAST_WAIT_S) if text is not None and text.isdecimal() and int(text) else None


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, so many seconds at most."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return

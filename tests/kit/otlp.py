"""A receiver of OTLP over HTTP on a port of its own, which decodes what it gets with OpenTelemetry's own messages."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status


class ReceivedSpan(NamedTuple):
    """A span as the receiver understands it; ids are in hexadecimal, and a root's parent is empty."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    started_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    is_error: bool
    resource: dict[str, Any]


class Receiver:
    """What it got. `answer` decides the status, the headers and the body of the next answers, by their number."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.spans: list[ReceivedSpan] = []
        self.requests: list[dict[str, str]] = []  # the headers of each, by their names in lower case
        self.paths: list[str] = []
        self.answer: Callable[[int], tuple[int, dict[str, str], bytes]] = lambda _: (200, {}, b"")
        self.came = threading.Condition()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Read a request, and answer it."""
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        with self.came:
            self.requests.append(headers)
            self.paths.append(path)
            status, more, said = self.answer(len(self.requests))
            if status == 200:
                self.spans += _read(request)
            self.came.notify_all()
        return status, more, said

    def wait_for(self, seen: Callable[[], Any], within_s: float = 60.0) -> Any:
        """Wait until `seen` returns something; that."""
        with self.came:
            assert self.came.wait_for(seen, within_s), f"it did not come in {within_s:g} s"
            return seen()

    def trace(self, root: str) -> list[ReceivedSpan]:
        """The spans of the newest trace whose root has this name."""
        roots = [span for span in self.spans if span.name == root]
        return [span for span in self.spans if roots and span.trace_id == roots[-1].trace_id]


def partial_success(rejected: int, why: str) -> bytes:
    """The body of an answer that refuses some spans."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = why
    return bytes(response.SerializeToString())


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Run a receiver; it ends with the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            status, more, said = receiver.take(self.path, headers, body)
            self.send_response(status)
            for name, value in {**more, "Content-Length": str(len(said))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _read(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield ReceivedSpan(
                    span.name,
                    SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _attributes(span.attributes),
                    span.status.code == Status.STATUS_CODE_ERROR,
                    resource,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)

"""The form of server-sent events: lines of fields, an empty line after each event (WHATWG HTML, 9.2)."""

CONTENT_TYPE = "text/event-stream"
# No proxy may buffer, change or compress the stream: an event in a buffer has not arrived.
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
HEARTBEAT = b":\n\n"


def encode_event(event: str, data: bytes, event_id: str, retry_ms: int | None = None) -> bytes:
    """Encode an event; the client sends its id as Last-Event-ID when it connects again, after `retry_ms`.

    Raises ValueError for data or an id that would end the event.
    """
    if any(character in event + event_id for character in "\r\n\0"):
        raise ValueError("a field of an event is one line")
    if b"\r" in data or b"\n" in data:
        raise ValueError("the data of an event is one line, such as JSON without spaces")
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return b"%bevent: %b\nid: %b\ndata: %b\n\n" % (retry, event.encode(), event_id.encode(), data)

"""Nobody but us writes our events: a signature covers all that a consumer acts on."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.analytics.events import ACTIVITY, ActivityRecorded
from callboard.actors.delivery.events import MAIL, TemplatedEmailRequested
from callboard.ops.departments import OURS
from callboard.runtime import System, supervisor
from callboard.streams.cloudevents import Record, decode, encode, signed_headers
from callboard.streams.consumers import Consumer
from callboard.streams.event_parts import InvalidRecordError
from callboard.streams.event_types import EventType, derive_id
from callboard.streams.record_processor import RecordProcessor
from callboard.streams.signatures import EventSigner
from callboard.streams.stream_metrics import StreamMetrics

SECRET, EARLIER = "the secret of today, and of no other day", "the secret of yesterday, which is still accepted"
SIGNER = EventSigner([SECRET, EARLIER])
AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LETTER = TemplatedEmailRequested("verify_email", UUID(int=7), {"token_id": str(UUID(int=8))})
VALUE = msgspec.json.encode(LETTER)
FACTS: dict[str, Any] = {
    "event_id": "e1",
    "source": "callboard",
    "type": "letter.requested",
    "occurred_at": AT,
    "traceparent": None,
}


def record(headers: Any, value: bytes = VALUE, topic: str = MAIL.name) -> Record:
    return Record(topic, 0, 1, AT, b"k", value, tuple(headers))


def signed(signer: EventSigner = SIGNER, **facts: Any) -> list[tuple[str, bytes]]:
    return signed_headers(signer, VALUE, **{**FACTS, **facts})


def test_an_event_that_we_signed_is_read() -> None:
    read = decode(record(signed()), SIGNER)
    assert (read.event_id, read.occurred_at, read.event) == ("e1", AT, LETTER)


def test_an_event_signed_under_an_earlier_secret_is_read_while_that_is_listed() -> None:
    old = signed(EventSigner([EARLIER]))
    assert decode(record(old), SIGNER).event == LETTER
    with pytest.raises(InvalidRecordError, match="unsigned"):
        decode(record(old), EventSigner([SECRET]))


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type", "ce_time", "ce_signature"])
def test_a_changed_header_makes_the_signature_void(name: str) -> None:
    other = {"ce_type": b"letter.requested ", "ce_time": b"2026-03-01T12:00:00.123456Z"}.get(name, b"other")
    changed = [(each, other if each == name else value) for each, value in signed()]
    with pytest.raises(InvalidRecordError) as refused:
        decode(record(changed), SIGNER)
    assert refused.value.reason == ("unknown_type" if name == "ce_type" else "unsigned")


@pytest.mark.parametrize("name", ["ce_time", "ce_signature"])
def test_an_event_of_ours_without_a_time_or_a_signature_is_unsigned(name: str) -> None:
    with pytest.raises(InvalidRecordError, match="unsigned"):
        decode(record(pair for pair in signed() if pair[0] != name), SIGNER)


def test_other_data_makes_the_signature_void() -> None:
    with pytest.raises(InvalidRecordError, match="unsigned"):
        decode(record(signed(), VALUE.replace(b"verify_email", b"reset_passwd")), SIGNER)


def test_a_part_moved_into_its_neighbour_makes_another_signature() -> None:
    parts = {"type": "t", "time": "x", "data": b"d"}
    assert SIGNER.sign(event_id="ab", source="c", **parts) != SIGNER.sign(event_id="a", source="bc", **parts)  # type: ignore[arg-type]


OF_PRODUCERS = {"activity.recorded", "mail.requested"}
DECLARED = [event for each in OURS for event in each.events if event.name not in OF_PRODUCERS]


@pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: declared.name)
def test_every_event_type_that_is_ours_needs_a_signature(declared: EventType) -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/x"), ("ce_type", declared.name.encode())]
    with pytest.raises(InvalidRecordError, match="unsigned"):
        decode(record([*headers, ("ce_time", b"2026-03-01T12:00:00Z")], b"{}", declared.topics[0].name), SIGNER)


def test_a_producer_cannot_speak_in_our_name_even_with_a_type_that_is_open() -> None:
    view = ActivityRecorded("page_views", 1.0, "s", AT)
    value, headers = encode(view, event_id="e1", occurred_at=AT, source="callboard")
    with pytest.raises(InvalidRecordError, match="unsigned"):
        decode(record(headers, value, ACTIVITY.name), SIGNER)
    value, headers = encode(view, event_id="e1", occurred_at=AT, source="/web")
    assert decode(record(headers, value, ACTIVITY.name), SIGNER).event == view


def test_a_structured_event_of_ours_is_signed_over_its_data() -> None:
    time = AT.isoformat()
    signature = SIGNER.sign(event_id="e1", source="callboard", type="letter.requested", time=time, data=VALUE)
    event = {"specversion": "1.0", "id": "e1", "source": "callboard", "type": "letter.requested", "time": time}
    mode = [("content-type", b"application/cloudevents+json")]
    whole = msgspec.json.encode({**event, "signature": signature, "data": msgspec.Raw(VALUE)})
    assert decode(record(mode, whole), SIGNER).event == LETTER
    with pytest.raises(InvalidRecordError, match="unsigned"):
        decode(record(mode, whole.replace(b"verify_email", b"reset_passwd")), SIGNER)


async def test_a_forged_event_is_a_dead_letter_and_the_true_one_of_the_same_id_still_has_its_effect(stage: Any) -> None:
    consumer = Consumer("recorder", (ACTIVITY,), (ActivityRecorded,), stage.recorder)
    processor = RecordProcessor(consumer, stage.database, SIGNER, StreamMetrics())
    view = ActivityRecorded("page_views", 1.0, "s", datetime.now(UTC))
    value = msgspec.json.encode(view)
    facts: dict[str, Any] = {"event_id": str(uuid4()), "source": "callboard", "type": "activity.recorded"}
    headers = signed_headers(SIGNER, value, **facts, occurred_at=datetime.now(UTC), traceparent=None)
    forged = Record(ACTIVITY.name, 0, 1, AT, None, value, tuple(headers[:-1]))
    genuine = Record(ACTIVITY.name, 0, 2, AT, None, value, tuple(headers))
    async with System(supervisor("stage", stage.recorder)):
        await processor.process([forged, genuine, genuine])
    assert await stage.count("select count(*) from dead_letters where reason = 'unsigned'") == 1
    assert await stage.count("select count(*) from effects") == 1


async def test_a_signed_event_older_than_what_is_remembered_of_it_is_expired(stage: Any) -> None:
    consumer = Consumer("recorder", (ACTIVITY,), (ActivityRecorded,), stage.recorder)
    processor = RecordProcessor(consumer, stage.database, SIGNER, StreamMetrics())
    view = ActivityRecorded("page_views", 1.0, "s", AT)
    value = msgspec.json.encode(view)
    facts: dict[str, Any] = {"event_id": "1", "source": "callboard", "type": "activity.recorded"}
    old = signed_headers(SIGNER, value, **facts, occurred_at=AT, traceparent=None)
    async with System(supervisor("stage", stage.recorder)):
        await processor.process([Record(ACTIVITY.name, 0, 1, AT, None, value, tuple(old))])
    assert await stage.count("select count(*) from dead_letters where reason = 'expired'") == 1
    assert await stage.count("select count(*) from effects") == 0


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_ids_that_follow_from_other_parts_differ(one: list[str], other: list[str]) -> None:
    assert (derive_id(*one) == derive_id(*other)) == (one == other)


def test_the_parts_of_a_name_are_not_joined() -> None:
    assert derive_id("a/b", "c") != derive_id("a", "b/c")
    assert derive_id("1:a", "b") != derive_id("1", ":ab")

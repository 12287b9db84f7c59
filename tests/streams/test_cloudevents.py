"""The codec: what we write we can read, and whatever others write is an event or a verdict."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unicodedata import normalize
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.property_examples import examples

from callboard.actors.analytics.events import ACTIVITY, ActivityRecorded
from callboard.actors.delivery.events import MAIL, PRIORITY, MailRequested
from callboard.actors.editorial.events import CONTENT
from callboard.streams.cloudevents import Record, encode, encode_value
from callboard.streams.cloudevents import decode as decode_signed
from callboard.streams.event_parts import VALUE_LIMIT, InvalidRecordError
from callboard.streams.event_types import Envelope, type_of
from callboard.streams.signatures import EventSigner
from callboard.streams.topics import TOPICS

SIGNER = EventSigner(["a secret"])
READ_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
OURS = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/web", "ce_type": "activity.recorded"}
VIEW = b'{"metric":"page_views","value":1,"subject_id":"s","occurred_at":"2026-03-01T10:00:00Z"}'

texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=80)
moments = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive
activities = st.builds(
    ActivityRecorded,
    metric=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=80).map(
        lambda text: normalize("NFC", f"m{text}")
    ),
    value=st.floats(-1e100, 1e100),
    subject_id=texts,
    occurred_at=moments,
)
names = st.one_of(st.sampled_from([*OURS, "ce_time", "content-type", "traceparent"]), st.text(max_size=10))
hints = [b"1.0", b"1", b"/web", b"activity.recorded", b"mail.requested", b"2026-03-01T10:00:00Z", b"application/json"]
values = st.one_of(st.none(), st.binary(max_size=40), st.sampled_from([*hints, b"application/cloudevents+json"]))
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)
near = st.fixed_dictionaries(
    {},
    optional={
        "specversion": st.sampled_from(["1.0", "0.3", 1]),
        "id": st.text(max_size=4) | st.integers(),
        "source": st.text(max_size=4),
        "type": st.sampled_from(["activity.recorded", "mail.requested", "?"]),
        "time": st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-01T10:00:00", ""]),
        "datacontenttype": st.sampled_from(["application/json", "text/xml"]),
        "data": json | st.just(msgspec.json.decode(VIEW)),
        "data_base64": st.text(max_size=8),
    },
)
bodies = st.one_of(st.none(), st.binary(max_size=200), json.map(msgspec.json.encode), near.map(msgspec.json.encode))


def decode(read: Record) -> Envelope:
    return decode_signed(read, SIGNER)


def record(value: bytes | None = VIEW, topic: str = ACTIVITY.name, **changed: str | None) -> Record:
    headers = {**OURS, **{name.replace("__", "-"): text for name, text in changed.items()}}
    return Record(
        topic=topic,
        partition=0,
        offset=7,
        timestamp=READ_AT,
        key=None,
        value=value,
        headers=tuple((name, text.encode()) for name, text in headers.items() if text is not None),
    )


@given(activities, texts, texts, moments)
def test_what_is_encoded_is_decoded_again(event: Any, event_id: str, source: str, occurred_at: datetime) -> None:
    value, headers = encode(event, event_id=event_id, source=source, occurred_at=occurred_at)
    read = decode(Record(ACTIVITY.name, 0, 0, READ_AT, None, value, tuple(headers)))
    assert read == Envelope(event_id, source, "activity.recorded", ACTIVITY.name, occurred_at, None, event)


@settings(max_examples=examples(600), suppress_health_check=[HealthCheck.too_slow])
@given(bodies, st.lists(st.tuples(names, values), max_size=8), st.sampled_from([*TOPICS, "activity.v1.dlq"]))
def test_whatever_the_bytes_there_is_an_envelope_or_a_verdict(value: Any, headers: Any, topic: str) -> None:
    verdict = ""
    try:
        read = decode(Record(topic, 0, 0, READ_AT, None, value, tuple(headers)))
    except InvalidRecordError as bad:
        verdict = bad.reason
    assert verdict in {"malformed", "unknown_type", "invalid", "too_large"} or isinstance(read, Envelope)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(None), "malformed"),
        (record(b"{"), "malformed"),
        (record(b"\xff"), "malformed"),
        (record(b"[" * 100_000), "invalid"),
        (record(VIEW[:-1] + b',"x":' + b"[" * 100_000), "malformed"),
        (record(ce_id=None), "malformed"),
        (record(ce_id="x" * 201), "malformed"),
        (record(ce_id="a\x00b"), "malformed"),
        (record(ce_source=None), "malformed"),
        (record(ce_source="x" * 401), "malformed"),
        (record(ce_specversion="0.3"), "malformed"),
        (record(ce_time="yesterday"), "malformed"),
        (record(ce_time="2026-03-01T10:00:00"), "malformed"),
        (record(ce_time="0001-01-01T00:00:00+14:00"), "malformed"),
        (record(content__type="text/xml"), "malformed"),
        (record(ce_type="page.viewed"), "unknown_type"),
        (record(topic=CONTENT.name), "invalid"),
        (record(b"{}"), "invalid"),
        (record(b"null"), "invalid"),
        (record(VIEW.replace(b'"value":1', b'"value":"1"')), "invalid"),
        (record(VIEW.replace(b'"value":1', b'"value":1e400')), "invalid"),
        (record(VIEW.replace(b'"value":1', b'"value":1e101')), "invalid"),
        (record(VIEW.replace(b'"s"', b'"a\\u0000b"')), "invalid"),
        (record(VIEW.replace(b'"s"', b'"' + b"s" * 201 + b'"')), "invalid"),
        (record(VIEW.replace(b"page_views", b"p" * 101)), "invalid"),
        (record(VIEW.replace(b"page_views", b"")), "invalid"),
        (record(VIEW.replace(b"2026-03-01T10:00:00Z", b"0001-01-01T00:00:00+14:00")), "invalid"),
        (record(VIEW.replace(b"10:00:00Z", b"10:00:00")), "invalid"),
        (record(b" " * VALUE_LIMIT + VIEW), "too_large"),
    ],
)
def test_a_bad_record_gets_its_reason(bad: Record, reason: str) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        decode(bad)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "to",
    [
        *(
            "a@[",
            "a@[127.0.0.1]",
            "a@",
            "@b.example",
            "a b@c.example",
            "a..b@c.example",
            '"a b"@c.example',
            "a@-b.example",
        ),
        *(
            "Ada <ada@b.example>",
            "a@b.example, c@d.example",
            "a@b.example\\r\\nBcc: c@d.example",
            f"{'a' * 65}@b.example",
            "",
        ),
    ],
)
def test_a_recipient_that_no_account_could_have_is_invalid_and_named(to: str) -> None:
    value = b'{"to":"%s","subject":"s","text":"t"}' % to.replace('"', '\\"').encode()
    with pytest.raises(InvalidRecordError) as bad:
        decode(record(value, ce_type="mail.requested", topic=MAIL.name))
    assert bad.value.reason == "invalid"
    assert "$.to" in bad.value.detail


def test_a_recipient_is_canonical_once_it_is_read() -> None:
    value = '{"to":" Ada@BÜCHER.example ","subject":"s","text":"t"}'.encode()
    event = decode(record(value, ce_type="mail.requested", topic=MAIL.name)).event
    assert isinstance(event, MailRequested)
    assert event.to == "Ada@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "value",
    [
        VIEW.replace(b'"value":1', b'"value":1,"value":2'),
        VIEW.replace(b'"value":1', b'"value":1,"val\\u0075e":1'),
        VIEW.replace(b'"value":1', b'"value" :1, "value" : 1'),
        VIEW[:-1] + b',"more":[{"a":{"b":1,"b":1}}]}',
    ],
)
def test_a_key_that_is_there_twice_is_refused_in_either_mode(value: bytes) -> None:
    attributes = {name.removeprefix("ce_"): text for name, text in OURS.items()}
    whole = {"content__type": "application/cloudevents+json"}
    in_one = msgspec.json.encode({**attributes, "data": msgspec.Raw(value)})
    in_base64 = msgspec.json.encode({**attributes, "data_base64": value})
    other_id = in_one.replace(value, VIEW)[:-1] + b',"id":"2"}'
    for read in (record(value), *(record(each, **whole) for each in (in_one, in_base64, other_id))):
        with pytest.raises(InvalidRecordError, match="twice") as bad:
            decode(read)
        assert bad.value.reason == "invalid"


@pytest.mark.parametrize(
    "subject", ["", " ", "\u200b", "\u2800", "a\u202eb", "a\ufffeb", "\U0010ffff", "\u0301"], ids=ascii
)
def test_a_producers_subject_shows_something_and_holds_no_control_character(subject: str) -> None:
    value = msgspec.json.encode({"to": "a@b.example", "subject": subject, "text": "t"})
    with pytest.raises(InvalidRecordError, match=r"\$\.subject") as bad:
        decode(record(value, MAIL.name, ce_type="mail.requested"))
    assert bad.value.reason == "invalid"


@pytest.mark.parametrize("name", ["ce_id", "ce_source"])
@pytest.mark.parametrize("text", ["a\x9b31m", "a\x85", "a\x7f", "a\ufffe", "a\U0010ffff", "a\ufdd0"], ids=ascii)
def test_an_attribute_has_no_character_that_cloudevents_forbids(name: str, text: str) -> None:
    with pytest.raises(InvalidRecordError, match="control characters") as bad:
        decode(record(VIEW, **{name: text}))
    assert bad.value.reason == "malformed"


@pytest.mark.parametrize("metric", ["", " ", "\u200b", "a\u202eb", "a\x9b31m", "a\n", "a\ufeff", "m" * 101], ids=ascii)
def test_a_metric_shows_something_and_holds_no_control_character(metric: str) -> None:
    value = msgspec.json.encode(msgspec.json.decode(VIEW) | {"metric": metric})
    with pytest.raises(InvalidRecordError) as bad:
        decode(record(value))
    assert bad.value.reason == "invalid"


def test_a_metric_has_one_name_in_every_form_of_unicode() -> None:
    names = {
        decode(record(msgspec.json.encode(msgspec.json.decode(VIEW) | {"metric": each}))).event.metric
        for each in ("caf\u00e9", "cafe\u0301", " caf\u00e9 ")
    }
    assert names == {"caf\u00e9"}


@pytest.mark.parametrize("name", ["ce_id", "CE_ID", "ce_source", "ce_type", "ce_time", "ce_other"])
def test_an_attribute_with_two_values_is_none(name: str) -> None:
    sent = record(ce_other="1", ce_time="2026-03-01T10:00:00Z")
    with pytest.raises(InvalidRecordError, match="twice") as bad:
        decode(msgspec.structs.replace(sent, headers=(*sent.headers, (name, b"2"))))
    assert bad.value.reason == "malformed"


def test_the_same_value_again_and_another_trace_do_no_harm() -> None:
    sent = record(traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    again = (("ce_id", b"1"), ("traceparent", b"other"), ("ce_id", None))
    assert decode(msgspec.structs.replace(sent, headers=(*sent.headers, *again))) == decode(sent)


def test_structured_mode_is_read_too() -> None:
    attributes = {name.removeprefix("ce_"): text for name, text in OURS.items()} | {"time": "2026-03-01T11:00:00+02:00"}
    event = msgspec.json.encode({**attributes, "data": msgspec.Raw(VIEW)})
    in_base64 = msgspec.json.encode({**attributes, "data_base64": VIEW})
    for value in (event, in_base64):
        read = decode(
            Record(
                ACTIVITY.name,
                0,
                0,
                READ_AT,
                None,
                value,
                (("Content-Type", b"application/cloudevents+json; charset=UTF-8"),),
            )
        )
        assert (read.event_id, read.source) == ("1", "/web")
        assert read.occurred_at == datetime(2026, 3, 1, 9, tzinfo=UTC)
        assert isinstance(read.event, ActivityRecorded)


def test_without_ce_time_the_records_own_time_stands() -> None:
    assert decode(record()).occurred_at == READ_AT
    assert decode(record(ce_time="2026-03-01T10:00:00.5+01:00")).occurred_at == datetime(
        2026, 3, 1, 10, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=1))
    )


def test_unknown_fields_are_ignored_so_that_events_can_grow() -> None:
    assert decode(record(VIEW[:-1] + b',"browser":"lynx"}')).event == decode(record()).event


def test_a_broken_traceparent_is_no_traceparent() -> None:
    good = f"00-{'a' * 32}-{'b' * 16}-01"
    assert decode(record(traceparent=good)).traceparent == good
    assert decode(record(traceparent="00-zz-1-01")).traceparent is None


def test_mail_travels_on_two_topics() -> None:
    event = MailRequested(to="a@example.com", subject="Hello", text="…")
    value, headers = encode(event, event_id="1", source="/tests", occurred_at=READ_AT)
    for topic in (MAIL, PRIORITY):
        assert decode(Record(topic.name, 0, 0, READ_AT, None, value, tuple(headers))).event == event
    assert type_of(event).key_of(event) == "a@example.com"


@pytest.mark.parametrize("field", [{"to": "a@b.example\r\nBcc: c@d.example"}, {"subject": "a\nb"}, {"to": "nobody"}])
def test_a_mail_request_cannot_smuggle_a_header(field: dict[str, str]) -> None:
    body = msgspec.json.encode({"to": "a@b.example", "subject": "s", "text": "t"} | field)
    with pytest.raises(InvalidRecordError, match="invalid"):
        decode(record(body, MAIL.name, ce_type="mail.requested"))


def test_an_event_too_large_to_be_read_is_not_written() -> None:
    with pytest.raises(ValueError, match="an event may take"):
        encode_value(MailRequested(to="a@b.example", subject="s", text="x" * VALUE_LIMIT))


def test_what_is_no_event_is_not_encoded() -> None:
    with pytest.raises(KeyError):
        encode(UUID(int=0), event_id="1", occurred_at=READ_AT)  # type: ignore[arg-type]

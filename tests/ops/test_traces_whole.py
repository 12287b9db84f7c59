"""One trace of a whole running system: from a request through ask, SQL, outbox, Kafka and its consumer to the mail."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.otlp import ReceivedSpan, Receiver, receiving
from kit.running import PASSWORD, Up, request

pytestmark = pytest.mark.long

REGISTER = "/api/v1/auth/register"
ROOT = f"HTTP POST {REGISTER}"
WAY = (  # of a registration, each below the one before
    ROOT,
    "ACTOR users RegisterUser",
    "EXT kafka publish",
    "EXT kafka process",
    "JOB mail",
    "ACTOR mail Job",
    "EXT smtp send",
)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture(scope="module")
def site(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "REQUEST_TIMEOUT_MS": "60000",
    }
    up = Up(Path(tmp_path_factory.mktemp("traces")), environment=environment)
    try:
        yield up.ready()
    finally:
        up.end()


def way_to(spans: list[ReceivedSpan], name: str) -> list[str]:
    """The names from a trace's root down to a span, whatever SQL lies between left out."""
    by_id = {span.span_id: span for span in spans}
    (span,) = [span for span in spans if span.name == name]
    names = [span.name]
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    return [each for each in reversed(names) if not each.startswith("DB ")]


def test_one_trace_goes_from_the_request_to_the_mail_and_its_deadline_with_it(site: Up, receiver: Receiver) -> None:
    caller, trace_id = "b7ad6b7169203331", secrets.token_hex(16)
    email = f"{secrets.token_hex(6)}@example.org"
    account = {"email": email, "password": PASSWORD, "full_name": "Ada Penwright", "terms_accepted": True}
    headers = {"traceparent": f"00-{trace_id}-{caller}-01"}
    url = site.api.removesuffix("/api/v1") + REGISTER
    assert request("POST", url, body=account, headers=headers, timeout_s=60.0).status == 201
    site.mail_token(email)

    def whole() -> list[ReceivedSpan]:
        found = [span for span in receiver.spans if span.trace_id == trace_id]
        return found if {"EXT smtp send", "JOB mail", ROOT} <= {span.name for span in found} else []

    spans = receiver.wait_for(whole)
    assert way_to(spans, "EXT smtp send") == list(WAY)
    assert way_to(spans, "ACTOR mail_queue ConsumeEvents") == [*WAY[:4], "ACTOR mail_queue ConsumeEvents"]
    by_name = {span.name: span for span in spans}
    root = by_name[ROOT]
    assert (root.parent_id, root.kind, root.attributes["http.status_code"]) == (caller, "server", 201)
    assert root.attributes["http.route"] == REGISTER
    assert {"DB INSERT users", "DB INSERT outbox", "DB INSERT consumed_events", "DB INSERT mails", "DB COMMIT"} <= set(
        by_name
    )
    statement = by_name["DB INSERT users"]
    assert statement.attributes["db.system"] == "postgresql"
    assert statement.attributes["db.operation"] == "INSERT"
    assert any(span.name.startswith("CACHE EVAL") and ":*:register" in span.name for span in spans)
    # The deadline: of the request in its ask, of the mail's topic in its job.
    assert 0 < by_name["ACTOR users RegisterUser"].attributes["deadline_ms"] <= 60_000
    assert 0 < by_name["JOB mail"].attributes["deadline_ms"] <= 3_600_000
    for span in spans:
        assert (span.attributes["trace.id"], span.attributes["span.id"]) == (span.trace_id, span.span_id)
        assert span.attributes["service.name"] == span.resource["service.name"] == "callboard"


def test_no_span_has_a_secret_or_data_of_a_user(site: Up, receiver: Receiver) -> None:
    ada = site.join()
    answer = site.call("POST", "/content", token=ada["token"], body={"title": "A secret title", "body": "A secret"})
    content_id = answer.data["content_id"]
    assert site.call("GET", f"/content/{content_id}", token=ada["token"]).status == 200
    assert site.call("GET", f"/content/{content_id}?secret=1", token=ada["token"]).status == 400
    pattern = "HTTP GET /api/v1/content/{content_id}"
    receiver.wait_for(lambda: receiver.trace(pattern))
    said = repr([span._replace(resource={}) for span in receiver.spans])
    for private in (ada["email"], ada["user_id"], ada["token"], PASSWORD, content_id, "secret", "Penwright"):
        assert private not in said


def test_what_its_caller_does_not_sample_leaves_no_span(site: Up, receiver: Receiver) -> None:
    trace_id = secrets.token_hex(16)
    url = f"{site.api}/content"
    assert request("GET", url, headers={"traceparent": f"00-{trace_id}-{'1' * 16}-00"}).status == 200
    after = secrets.token_hex(16)
    assert request("GET", url, headers={"traceparent": f"00-{after}-{'1' * 16}-01"}).status == 200
    receiver.wait_for(lambda: any(span.trace_id == after for span in receiver.spans))
    assert not any(span.trace_id == trace_id for span in receiver.spans)


def test_probes_and_scrapes_of_operators_make_no_trace_and_their_page_counts_spans(
    site: Up, receiver: Receiver
) -> None:
    page = request("GET", f"{site.operators}/metrics", token=site.facts["OPS_TOKEN"]).body
    assert 'callboard_spans_total{outcome="sent"}' in str(page)
    assert not any("/metrics" in span.name or "/ready" in span.name for span in receiver.spans)

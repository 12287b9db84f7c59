"""Content, statistics and profiles over HTTP: bounds that are said, old names that work, values that come back."""

from typing import Any

import pytest
from kit.running import Answer, Up, request


def put(up: Up, path: str, token: str, body: Any) -> Answer:
    return request("PUT", up.api + path, body=body, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("<div>" * 40_000, "nested deeper than 100"),
        ("<p>" + "".join(f"<b a{n}>" for n in range(3_000)) + "<p>x" * 2_000, "nested deeper than 100"),
        ("<br>" * 20_000, "5000 elements"),
    ],
)
def test_a_body_with_too_much_markup_is_refused_with_its_field(up: Up, body: str, why: str) -> None:
    _, editor, _ = up.people()
    answer = up.call("POST", "/content", token=editor, body={"title": "A title", "body": body})
    assert answer.status == 400
    assert answer.body["error"]["field"] == "body"
    assert why in answer.body["error"]["details"][0]["message"]


def test_the_old_name_of_a_state_is_taken_said_to_be_deprecated_and_never_given(up: Up) -> None:
    _, editor, _ = up.people()
    made = up.call("POST", "/content", token=editor, body={"title": "A title", "body": "b"}).data
    path = f"/content/{made['content_id']}/transitions"
    assert up.call("POST", path, token=editor, body={"action": "submit_for_review"}).data["status"] == "pending_review"
    old = up.call("GET", "/content?status=pending", token=editor)
    new = up.call("GET", "/content?status=pending_review", token=editor)
    assert made["content_id"] in {each["content_id"] for each in old.data}
    assert old.data == new.data
    assert {each["status"] for each in old.data} == {"pending_review"}
    assert old.headers["Deprecation"].startswith("@")
    assert "Deprecation" not in new.headers


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("to=0001-01-02T00:00:00Z", "to"),
        ("to=0001-01-01T00:00:00Z", "to"),
        ("from=0001-01-01T00:00:00Z&to=0001-01-01T00:00:00Z", "from"),
        ("from=9999-12-31T23:59:59Z", "from"),
        ("from=0002-01-01T00:00:00Z", "from"),
        ("from=2024-01-01T00:00:00Z&to=2025-01-02T01:00:00Z", "from"),
        ("from=0002-01-01T00:00:00Z&to=9998-12-31T00:00:00Z", "from"),
        ("from=1767225600", "from"),
        ("to=-8.9e-79", "to"),
        ("to=nan", "to"),
    ],
)
def test_times_out_of_reach_too_long_a_span_and_numbers_are_refused(up: Up, query: str, field: str) -> None:
    _, editor, _ = up.people()
    answer = up.call("GET", f"/stats?{query}", token=editor)
    assert (answer.status, answer.body["error"]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "metric"),
        ("metric=", "metric"),
        (f"metric={'m' * 101}", "metric"),
        ("metric=m&by=avg", "by"),
        ("metric=m&limit=0", "limit"),
        ("metric=m&limit=101", "limit"),
        ("metric=m&limit=x", "limit"),
        ("metric=%00", "metric"),
        ("metric=m&from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:01Z", "from"),
        ("metric=m&from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("metric=m&to=0001-01-02T00:00:00Z", "to"),
        ("metric=m&from=9999-12-31T23:59:59Z", "from"),
        ("metric=m&from=0001-01-01T00:00:00%2B14:00", "from"),
    ],
)
def test_bad_questions_for_the_top_of_a_metric_name_their_field(up: Up, query: str, field: str) -> None:
    _, editor, _ = up.people()
    answer = up.call("GET", f"/stats/top?{query}", token=editor)
    assert (answer.status, answer.body["error"]["field"]) == (400, field)


def test_the_top_of_a_metric_that_nobody_counts_is_empty(up: Up) -> None:
    _, editor, _ = up.people()
    answer = up.call("GET", "/stats/top?metric=nothing&by=count&limit=100", token=editor)
    assert (answer.status, answer.data) == (200, [])


@pytest.mark.parametrize(
    "query",
    [
        "from=0002-01-01T00:00:00Z&to=0003-01-02T00:00:00Z",
        "from=2024-01-01T00:00:00Z&to=2025-01-01T00:00:00Z",
        "to=9998-12-31T00:00:00Z",
        "to=0002-01-02T00:00:00Z",
    ],
)
def test_times_that_the_calendar_has_are_answered(up: Up, query: str) -> None:
    _, editor, _ = up.people()
    assert up.call("GET", f"/stats?{query}", token=editor).status == 200


@pytest.mark.parametrize(
    "preferences",
    [
        {"numbers": [1e308] * 30},
        {"numbers": [1e-308, 5e-324, -0.0, 1.0, 0.1, 2**63, 12345678901234567890123]},
        {"text": "é東🏮\\u0041\n" * 20, "é" * 20: None},
        {"n": [1e308] * 1_350},
        {"n": 10**308},
    ],
)
def test_preferences_that_were_got_can_be_put_again(up: Up, preferences: dict[str, Any]) -> None:
    ada = up.join()
    first = put(up, "/users/me/profile", ada["token"], {"preferences": preferences})
    assert (first.status, first.data["preferences"]) == (200, preferences)
    got = up.call("GET", "/users/me/profile", token=ada["token"]).data["preferences"]
    again = put(up, "/users/me/profile", ada["token"], {"preferences": got})
    assert (again.status, again.data["preferences"]) == (200, preferences)


def test_searches_have_a_limit_of_their_own(up: Up) -> None:
    answer = up.call("GET", "/content/search?q=lantern")
    assert '"search";q=' in answer.headers["RateLimit-Policy"]

"""Comments over HTTP, on a running system: what strangers, members and editors are answered."""

from typing import Any
from uuid import uuid4

import pytest
from kit.people import Person, UserFactory
from kit.running import Answer, Up, request

from callboard.actors.editorial.refs import COMMENTS
from callboard.http.api.routes import ROUTES


class Thread:
    """A published article, its author, a reader and an editor."""

    def __init__(self, up: Up) -> None:
        self.api = up.api
        people = UserFactory(up.facts)
        self.author, self.reader, self.editor = [people.person(role) for role in ("member", "member", "editor")]
        given = {"title": "On the engine", "body": "It might act upon other things."}
        self.content_id = self.call("POST", "/content", self.author, given).data["content_id"]
        self.move("submit_for_review", self.author)
        for action in ("approve", "publish"):
            self.move(action, self.editor)
        self.comments = f"/content/{self.content_id}/comments"

    def call(self, method: str, path: str, by: Person | None = None, body: Any = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(method, self.api + path, token="" if by is None else by.token, body=body, headers=named)

    def move(self, action: str, by: Person) -> None:
        assert self.call("POST", f"/content/{self.content_id}/transitions", by, {"action": action}).status == 200

    def add(self, by: Person, body: str = "Well said", **more: Any) -> Answer:
        return self.call("POST", self.comments, by, {"body": body, **more})


@pytest.fixture(scope="module")
def shared(up: Up) -> Thread:
    return Thread(up)


@pytest.fixture
def thread(up: Up) -> Thread:
    return Thread(up)


def test_a_comment_is_written_answered_read_edited_and_deleted(thread: Thread) -> None:
    made = thread.add(thread.reader, '<b>Well</b> said<script>alert("x")</script>')
    assert (made.status, made.headers["etag"]) == (201, '"1"')
    path = f"/comments/{made.data['comment_id']}"
    assert made.headers["location"] == f"/api/v1{path}"
    assert made.data["body_html"] == "<b>Well</b> said"
    reply = thread.add(thread.author, "Thank you", parent_id=made.data["comment_id"])
    assert (reply.status, reply.data["depth"]) == (201, 1)
    (listed,) = thread.call("GET", thread.comments).data
    assert (listed["replies"], listed["author_name"], listed["status"]) == (1, "Some One", "visible")
    assert [each["body"] for each in thread.call("GET", f"{path}/replies").data] == ["Thank you"]
    assert thread.call("GET", path, If_None_Match='"1"').status == 304
    assert thread.call("PUT", path, thread.reader, {"body": "Better"}).code == "COMMENT_IF_MATCH_MISSING_008"
    changed = thread.call("PUT", path, thread.reader, {"body": "Better"}, If_Match='"1"')
    assert (changed.status, changed.headers["etag"], changed.data["body"]) == (200, '"2"', "Better")
    stale = thread.call("PUT", path, thread.reader, {"body": "Late"}, If_Match='"1"')
    assert (stale.status, stale.code) == (412, "COMMENT_STALE_007")
    other = thread.call("PUT", path, thread.author, {"body": "Mine"}, If_Match='"1"')
    assert (other.status, other.code) == (403, "COMMENT_FORBIDDEN_005")
    assert thread.call("DELETE", path, thread.reader, If_Match='"1"').status == 412
    assert thread.call("DELETE", path, thread.reader).status == 204
    (listed,) = thread.call("GET", thread.comments, thread.reader).data
    assert (listed["status"], listed["body"], listed["author_id"], listed["author_name"]) == (
        "deleted",
        None,
        None,
        None,
    )
    assert thread.call("GET", path).status == 404


def test_comments_are_invisible_the_moment_their_article_is(thread: Thread) -> None:
    made = thread.add(thread.reader)
    path = f"/comments/{made.data['comment_id']}"
    doors = ("GET " + thread.comments, f"GET {path}", f"GET {path}/replies")
    assert [thread.call(*door.split(" ")).status for door in doors] == [200] * 3
    thread.move("archive", thread.author)
    for caller in (None, thread.reader):
        assert [thread.call(*door.split(" "), caller).status for door in doors] == [404] * 3
    for caller in (thread.author, thread.editor):
        assert [thread.call(*door.split(" "), caller).status for door in doors] == [200] * 3
    assert thread.call("PUT", path, thread.reader, {"body": "x"}, If_Match='"1"').status == 404
    assert thread.call("DELETE", path, thread.reader).status == 404
    assert thread.call("POST", f"{path}/reports", thread.reader, {"reason": "spam"}).status == 404
    assert thread.add(thread.author).code == "COMMENT_CONTENT_UNPUBLISHED_004"


def test_what_a_member_reports_an_editor_finds_and_hides(thread: Thread) -> None:
    made = thread.add(thread.reader, "Buy lanterns")
    path = f"/comments/{made.data['comment_id']}"
    reported = thread.call("POST", f"{path}/reports", thread.author, {"reason": "spam", "note": "an advertisement"})
    assert (reported.status, reported.data["reporter_id"]) == (201, str(thread.author.user_id))
    again = thread.call("POST", f"{path}/reports", thread.author, {"reason": "abuse"})
    assert (again.status, again.data) == (201, reported.data)
    page = thread.call("GET", "/comments/reported?limit=100", thread.editor)
    found = {each["comment"]["comment_id"]: each["reports"] for each in page.data}
    assert found[made.data["comment_id"]] == 1
    hide = {"action": "hide", "reason": "An advertisement"}
    assert thread.call("POST", f"{path}/moderations", thread.author, hide).status == 403
    assert thread.call("POST", f"{path}/moderations", thread.editor, hide, If_Match='"7"').status == 412
    hidden = thread.call("POST", f"{path}/moderations", thread.editor, hide)
    assert (hidden.status, hidden.data["status"], hidden.headers["etag"]) == (200, "hidden", '"2"')
    assert thread.call("POST", f"{path}/moderations", thread.editor, hide).code == "COMMENT_ILLEGAL_MODERATION_009"
    assert thread.call("GET", thread.comments).data == []
    assert [each["status"] for each in thread.call("GET", thread.comments, thread.reader).data] == ["hidden"]
    (step,) = thread.call("GET", f"{path}/moderations", thread.editor).data
    assert (step["action"], step["reason"], step["actor_name"]) == ("hide", "An advertisement", "Some One")
    (report,) = thread.call("GET", f"{path}/reports", thread.editor).data
    assert report["closed_at"] is not None


def test_a_repeated_request_with_its_key_makes_one_comment(thread: Thread) -> None:
    key = uuid4().hex
    answers = [
        thread.call("POST", thread.comments, thread.reader, {"body": "Once"}, Idempotency_Key=key) for _ in range(3)
    ]
    assert {each.status for each in answers} == {201}
    assert len({each.data["comment_id"] for each in answers}) == 1
    assert len(thread.call("GET", thread.comments).data) == 1


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_pages_are_followed_to_the_end_in_either_order(thread: Thread, order: str) -> None:
    made = [thread.add(thread.reader, str(number)).data["comment_id"] for number in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = thread.call("GET", f"{thread.comments}?order={order}&limit=2{cursor}")
        seen += [each["comment_id"] for each in page.data]
        if page.body["page"]["next_cursor"] is None:
            break
        cursor = f"&cursor={page.body['page']['next_cursor']}"
    assert seen == (made if order == "oldest" else made[::-1])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"body": ""}, "body"),
        ({"body": "\u200b \u2800"}, "body"),
        ({"body": "x" * 5_001}, "body"),
        ({"body": "a\u202eb"}, "body"),
        ({"body": "a\u0000b"}, "body"),
        ({"body": "<b>" * 200}, "body"),
        ({"body": "x", "parent_id": "7"}, "parent_id"),
        ({"body": "x", "parent_id": str(uuid4())}, "parent_id"),
        ({"body": "x", "author_id": str(uuid4())}, "author_id"),
    ],
)
def test_a_bad_comment_is_refused_by_its_field(shared: Thread, body: Any, field: str) -> None:
    refused = shared.call("POST", shared.comments, shared.reader, body)
    assert refused.status == 400
    assert [each["field"] for each in refused.body["error"]["details"]] == [field]


def test_comments_and_reports_are_limited_by_user() -> None:
    limited = {f"{route.method} {route.path}" for route in ROUTES if route.caller_limit is COMMENTS}
    assert limited == {"POST /content/{content_id}/comments", "POST /comments/{comment_id}/reports"}

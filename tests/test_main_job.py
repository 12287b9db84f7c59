"""The main job as an acceptance test: from a registration to a published article and its statistics, over sockets."""

import asyncio
import io
import re
import secrets
import sys
from typing import Any

import pytest
from kit.running import PASSWORD, Command, Up, until
from rich.console import Console

from callboard.ops import demo

VIEWS = 1000


async def test_the_main_job_prints_every_step_and_a_summary(up: Up) -> None:
    said = io.StringIO()
    console = Console(file=said, width=200)
    steps = await demo.play(demo.Target.of(up.demo_facts()), console)
    lines = [line for line in said.getvalue().splitlines() if line]
    assert steps == 18
    for number, line in enumerate(lines[:-1], start=1):
        assert re.fullmatch(rf" *{number}  \S.* -> \S.* +\d+ ms", line), line
    assert len(lines) == steps + 1
    summary = re.fullmatch(r"The main job: 18 steps in (\d+\.\d) s\.", lines[-1])
    assert summary
    assert float(summary[1]) < 15
    for promise in (
        "is_verified True",
        "200 draft, version 3",
        "200 published",
        "200 1 hit",
        "200 999 views",
        "malformed",
    ):
        assert promise in said.getvalue()


async def test_a_demo_that_does_not_come_out_says_at_which_step(up: Up) -> None:
    target = demo.Target.of({**up.demo_facts(), "EDITOR_PASSWORD": "Wrong-Wings-7"})
    with pytest.raises(demo.DemoError, match="the demo's editor has another password or is disabled"):
        await demo.play(target, Console(file=io.StringIO()))


def test_the_demo_command_says_what_is_missing(up: Up) -> None:
    command = Command("demo", "--data-dir", str(up.data))
    assert command.wait() == 1
    assert "no demo accounts: stop it, and start it with `callboard up --demo`" in command.errors
    assert command.errors.count("\n") == 1


def written(up: Up, author: str, body: str = "<p>words</p>") -> dict[str, Any]:
    answer = up.call("POST", "/content", token=author, body={"title": "The call", "body": body})
    assert answer.status == 201
    content: dict[str, Any] = answer.data
    return content


def moved(up: Up, content: dict[str, Any], token: str, action: str, note: str | None = None) -> Any:
    path = f"/content/{content['content_id']}/transitions"
    return up.call("POST", path, token=token, body={"action": action, "note": note})


class Story:
    """One article's way from draft to published, done with plain requests and no word of the demo's code."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.author = up.join()
        self.editor = up.people()[1]
        self.word = "w" + secrets.token_hex(6)
        self.content = written(up, self.author["token"], f"<p>{self.word}</p><script>alert(1)</script>")
        self.path = f"/content/{self.content['content_id']}"
        for token, action in ((self.author["token"], "submit_for_review"), (self.editor, "reject")):
            assert moved(up, self.content, token, action, "Say more.").status == 200

    def publish(self) -> None:
        for token, action in (
            (self.author["token"], "submit_for_review"),
            (self.editor, "approve"),
            (self.editor, "publish"),
        ):
            assert moved(self.up, self.content, token, action).status == 200

    def mails(self, subject: str) -> list[Any]:
        return [mail for mail in self.up.mails_to(self.author["email"]) if subject in mail["subject"]]


@pytest.fixture(scope="module")
def story(up: Up) -> Story:
    return Story(up)


def test_a_draft_is_not_there_for_anyone_but_its_author_and_editors(up: Up) -> None:
    author, stranger = up.join()["token"], up.join()["token"]
    draft = written(up, author)
    path = f"/content/{draft['content_id']}"
    for token in ("", stranger):
        answer = up.call("GET", path, token=token)
        assert (answer.status, answer.code) == (404, "CONTENT_NOT_FOUND_001")
    assert up.call("GET", path, token=author).status == 200
    assert up.call("GET", path, token=up.people()[1]).status == 200
    assert draft["content_id"] not in {each["content_id"] for each in up.call("GET", "/content?limit=100").data}


def test_nobody_logs_in_before_the_address_is_verified_and_a_link_works_once(up: Up) -> None:
    account = up.register()
    login = {"email": account["email"], "password": PASSWORD}
    assert up.call("POST", "/auth/login", body=login).code == "AUTH_UNVERIFIED_006"
    token = up.mail_token(account["email"])
    assert up.call("POST", "/auth/verify-email", body={"token": token}).status == 200
    again = up.call("POST", "/auth/verify-email", body={"token": token})
    assert (again.status, again.code) == (400, "AUTH_MAIL_TOKEN_INVALID_009")
    assert up.call("POST", "/auth/login", body=login).status == 200


def test_a_rejection_is_mailed_with_its_note(story: Story) -> None:
    mail = until("the rejection's mail", lambda: story.mails("Sent back"))[0]
    assert "Say more." in mail["text"]
    assert story.up.call("GET", story.path, token=story.author["token"]).data["status"] == "draft"


def test_an_author_does_not_approve_their_own(up: Up) -> None:
    author = up.join()["token"]
    content = written(up, author)
    assert moved(up, content, author, "submit_for_review").status == 200
    assert moved(up, content, author, "approve").status == 403
    assert moved(up, content, up.people()[1], "publish").code == "CONTENT_ILLEGAL_TRANSITION_002"


def test_a_published_article_is_found_and_read_without_a_token_and_its_views_are_counted(story: Story) -> None:
    up = story.up
    before = up.call("GET", f"/content/search?q={story.word}")
    assert before.data == []
    story.publish()
    (hit,) = up.call("GET", f"/content/search?q={story.word}").data
    assert hit["content_id"] == story.content["content_id"]
    article = up.call("GET", story.path)
    assert (article.status, article.data["status"]) == (200, "published")
    assert "<script" not in article.data["body_html"]
    until("the mail about publication", lambda: story.mails("Published"))

    asyncio.run(_report(up, story.content["content_id"]))
    stats = f"/stats?metric=page_view&subject_id={story.content['content_id']}"
    views = VIEWS - 1
    assert until(
        "999 views", lambda: sum(row["count"] for row in up.call("GET", stats, token=story.editor).data) == views
    )
    letters = until(
        "the dead letter",
        lambda: [
            letter
            for letter in up.look("/ops/v1/dead-letters?limit=100")
            if letter["key"] == story.content["content_id"]
        ],
    )
    assert [letter["reason"] for letter in letters] == ["malformed"]
    # The records went through in one order: with the dead letter written and 999 counted, no more are to come.
    assert sum(row["sum"] for row in up.call("GET", stats, token=story.editor).data) == views
    assert len(story.mails("Published")) == len(story.mails("Sent back")) == 1
    assert up.call("GET", stats, token=story.author["token"]).status == 403


async def _report(up: Up, subject: str) -> None:
    config = up.look("/ops/v1/config")
    producer = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "callboard.ops.activity_producer",
        config["KAFKA_BROKERS"],
        f"{config['TOPIC_PREFIX']}.activity.v1",
        subject,
        str(VIEWS),
    )
    assert await asyncio.wait_for(producer.wait(), 20) == 0


def test_the_history_tells_who_did_what_with_which_note(up: Up) -> None:
    story = Story(up)
    history = up.call("GET", f"{story.path}/transitions", token=story.author["token"]).data
    assert [(each["action"], each["note"]) for each in history] == [
        ("submit_for_review", "Say more."),
        ("reject", "Say more."),
    ]
    assert up.call("GET", f"{story.path}/transitions", token=up.join()["token"]).status == 404


def test_an_admin_from_the_command_line_makes_an_editor(up: Up) -> None:
    email = f"{secrets.token_hex(4)}@example.org"
    command = Command(
        *("users", "create-admin", "--email", email, "--password", PASSWORD, "--full-name", "Grace Fly"),
        environment={"CALLBOARD_DATA_DIR": str(up.data)},
    )
    assert command.wait() == 0, command.errors
    assert f"{email} is an admin" in command.output
    admin, future = up.log_in(email), up.join()
    content = written(up, up.join()["token"])
    hidden = up.call("GET", f"/content/{content['content_id']}", token=future["token"])
    assert hidden.status == 404
    path = f"/users/{future['user_id']}"
    assert up.call("PATCH", path, token=future["token"], body={"role": "editor"}).status == 403
    assert up.call("PATCH", path, body={"role": "editor"}).status == 401
    made = up.call("PATCH", path, token=admin, body={"role": "editor"})
    assert (made.status, made.data["role"]) == (200, "editor")
    # From the next request on, with the token that the account had before.
    assert up.call("GET", f"/content/{content['content_id']}", token=future["token"]).status == 200
    assert up.call("GET", f"/content/{content['content_id']}", token=up.log_in(future["email"])).status == 200

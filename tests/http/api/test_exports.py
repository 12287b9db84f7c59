"""The export as its owner lives it: asked for, mailed, its page opened, downloaded once, by nobody else."""

import io
import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from kit.running import PASSWORD, Answer, Up, request, until

READY = "Your data is ready"


def ready_mails(up: Up, email: str) -> list[Any]:
    return [mail for mail in up.mails_to(email) if mail["subject"] == READY]


def asked_for(up: Up, who: dict[str, str], number: int = 1) -> str:
    """The link in the mail of somebody's export, the `number`th that they ask for."""
    assert up.call("POST", "/users/me/export", token=who["token"]).status == 202
    mails = until("the mail", lambda: ready_mails(up, who["email"])[number - 1 :] and ready_mails(up, who["email"]))
    found = re.search(r"\S+/export\?token=\S+", mails[0]["text"])
    assert found
    return found[0]


def download(up: Up, token: str, secret: str) -> Answer:
    return up.call("POST", "/users/me/export/download", token=token, body={"token": secret})


def secret_of(link: str) -> str:
    return link.partition("?token=")[2]


def test_who_asks_for_the_export_is_mailed_a_page_whose_button_gives_the_archive_once(up: Up) -> None:
    ada = up.join()
    body = "<p>lantern</p>\n" * 10
    made = up.call("POST", "/content", token=ada["token"], body={"title": "Ada's", "body": body})
    link = asked_for(up, ada)
    page = request("GET", f"{up.api.removesuffix('/api/v1')}{urlsplit(link).path}?{urlsplit(link).query}")
    assert page.status == 200
    assert b'data-flow="export"' in page.body
    assert secret_of(link).encode() not in page.body
    answer = download(up, up.log_in(ada["email"]), secret_of(link))
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip")
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert (answer.headers["X-Content-Type-Options"], answer.headers["Cache-Control"]) == ("nosniff", "no-store")
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        (content,) = json.loads(archive.read("content.json"))
        assert (content["content_id"], content["body"]) == (made.data["content_id"], body)
        assert ada["email"].encode() in archive.read("account.json")
        assert {each["action"] for each in json.loads(archive.read("security_events.json"))} >= {"export.requested"}
    again = download(up, ada["token"], secret_of(link))
    assert (again.status, again.code) == (400, "AUTH_MAIL_TOKEN_INVALID_009")


def test_an_export_s_link_gives_nothing_to_anybody_else_and_is_not_spent_by_them(up: Up) -> None:
    ada, eve = up.join(), up.join()
    secret = secret_of(asked_for(up, ada))
    assert download(up, "", secret).status == 401
    for token, given in ((eve["token"], secret), (ada["token"], "x"), (ada["token"], ""), (ada["token"], secret[:-1])):
        assert download(up, token, given).code == "AUTH_MAIL_TOKEN_INVALID_009"
    for path in ("/exports", "/users/me/export/download"):
        assert up.call("GET", f"{path}?token={secret}", token=ada["token"]).status in (405, 410)
    for path, body in (
        ("/auth/verify-email", {"token": secret}),
        ("/auth/verify-email/refuse", {"token": secret}),
        ("/auth/undo-email-change", {"token": secret}),
        ("/auth/password/reset", {"token": secret, "new_password": "Another-Lantern-43"}),
    ):
        assert up.call("POST", path, body=body).code == "AUTH_MAIL_TOKEN_INVALID_009"
    with ThreadPoolExecutor(8) as tabs:
        answers = list(tabs.map(lambda _: download(up, ada["token"], secret), range(8)))
    assert sorted(answer.status for answer in answers) == [200, *[400] * 7]


def test_another_export_spends_the_link_of_the_one_before(up: Up) -> None:
    ada = up.join()
    old = secret_of(asked_for(up, ada))
    new = secret_of(asked_for(up, ada, 2))
    assert download(up, ada["token"], old).status == 400
    assert download(up, ada["token"], new).status == 200


@pytest.mark.parametrize("path", ["/users/me/export", "/users/me"])
def test_a_session_without_a_fresh_password_gets_no_export_and_deletes_nothing(up: Up, path: str) -> None:
    ada = up.join()
    up.execute("update sessions set proved_at = proved_at - interval '301 seconds' where user_id = $1", ada["user_id"])
    method = "POST" if path.endswith("export") else "DELETE"
    refused = up.call(method, path, token=ada["token"])
    assert (refused.status, refused.code) == (403, "AUTH_STEP_UP_REQUIRED_014")
    wrong = up.call("POST", "/auth/step-up", token=ada["token"], body={"password": "Wrong-Lantern-1"})
    assert wrong.status == 401
    assert up.call("POST", "/auth/step-up", token=ada["token"], body={"password": PASSWORD}).status == 200
    assert up.call(method, path, token=ada["token"]).status in (202, 204)

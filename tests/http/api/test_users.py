"""Accounts over HTTP, on the running system: one's own, another's, lists, profiles, and the public keys."""

import re
import secrets
from typing import Any

import pytest
from kit.running import PASSWORD, Answer, Up, request, until


def put(up: Up, path: str, token: str, body: Any, tag: str = "") -> Answer:
    headers = {"Authorization": f"Bearer {token}"} | ({"If-Match": tag} if tag else {})
    return request("PUT", up.api + path, body=body, headers=headers)


def test_an_account_is_read_and_edited_under_both_its_names(up: Up) -> None:
    ada = up.join()
    own = f"/users/{ada['user_id']}"
    for path in ("/users/me", own):
        read = up.call("GET", path, token=ada["token"])
        assert (read.status, read.data["email"]) == (200, ada["email"])
        edited = put(up, path, ada["token"], {"full_name": f"Ada {path}"}, read.headers["ETag"])
        assert (edited.status, edited.data["full_name"]) == (200, f"Ada {path}")
        assert edited.headers["ETag"] != read.headers["ETag"]
        stale = put(up, path, ada["token"], {"full_name": "Ada"}, read.headers["ETag"])
        assert (stale.status, stale.code) == (412, "USERS_STALE_004")
        assert put(up, path, ada["token"], {"full_name": "Ada"}).status == 200
    assert put(up, own, ada["token"], {"full_name": "Ada", "role": "admin"}).status == 400


def test_anothers_account_is_not_there_but_for_an_admin(up: Up) -> None:
    ada, eve = up.join(), up.join()
    admin, _, _ = up.people()
    for path in (f"/users/{ada['user_id']}", f"/users/{ada['user_id']}/profile"):
        body = {"full_name": "Eve"} if not path.endswith("profile") else {"bio": "Eve"}
        for answer in (up.call("GET", path, token=eve["token"]), put(up, path, eve["token"], body)):
            assert (answer.status, answer.code) == (404, "USERS_NOT_FOUND_002")
        assert put(up, path, admin, body).status == 200
    assert up.call("DELETE", f"/users/{ada['user_id']}", token=eve["token"]).status == 404
    assert up.call("DELETE", f"/users/{ada['user_id']}", token=admin).status == 204
    assert up.call("GET", f"/users/{ada['user_id']}", token=admin).status == 404


def test_who_deletes_the_account_is_nobody_from_then_on_and_may_come_again(up: Up) -> None:
    ada = up.join()
    assert up.call("DELETE", "/users/me", token=ada["token"]).status == 204
    assert up.call("GET", "/users/me", token=ada["token"]).code == "AUTH_SESSION_ENDED_005"
    answer = up.call("POST", "/auth/login", body={"email": ada["email"], "password": PASSWORD})
    assert answer.code == "AUTH_INVALID_CREDENTIALS_001"
    assert up.register(ada["email"])["user_id"] != ada["user_id"]


def test_a_new_address_is_proved_by_the_mail_that_goes_there(up: Up) -> None:
    ada = up.join()
    email = f"{secrets.token_hex(6)}@example.org"
    asked = put(up, "/users/me", ada["token"], {"full_name": "Ada", "email": email})
    assert (asked.status, asked.data["email"]) == (200, ada["email"])
    assert "mail has been sent" in asked.body["message"]
    assert up.call("POST", "/auth/verify-email", body={"token": up.mail_token(email)}).status == 200
    assert up.call("GET", "/users/me", token=ada["token"]).data["email"] == email
    assert up.log_in(email)
    assert "Your email address is about to change" in {mail["subject"] for mail in up.mails_to(ada["email"])}


def test_the_old_address_is_mailed_a_way_back_that_works(up: Up) -> None:
    ada = up.join()
    email = f"{secrets.token_hex(6)}@example.org"
    assert put(up, "/users/me", ada["token"], {"full_name": "Ada", "email": email}).status == 200
    assert up.call("POST", "/auth/verify-email", body={"token": up.mail_token(email)}).status == 200

    def link() -> str | None:
        texts = "".join(mail["text"] for mail in up.mails_to(ada["email"]))
        found = re.search(r"/undo-email-change\?token=(\S+)", texts)
        return found and found[1]

    undo = {"token": until("the mail with the way back", link)}
    assert up.call("POST", "/auth/undo-email-change", body=undo).data["email"] == ada["email"]
    assert up.call("GET", "/users/me", token=ada["token"]).code == "AUTH_SESSION_ENDED_005"
    again = up.call("POST", "/auth/undo-email-change", body=undo)
    assert (again.status, again.code) == (400, "AUTH_MAIL_TOKEN_INVALID_009")
    answer = up.call("POST", "/auth/login", body={"email": ada["email"], "password": PASSWORD})
    assert answer.code == "AUTH_INVALID_CREDENTIALS_001"


def test_admins_alone_list_accounts_page_by_page(up: Up) -> None:
    name = secrets.token_hex(6)
    emails = [up.register(f"{n}@{name}.example.org")["email"] for n in range(3)]
    admin, editor, _ = up.people()
    assert up.call("GET", "/users", token=editor).status == 403
    seen, cursor = [], ""
    while cursor is not None:
        page = up.call("GET", f"/users?q={name}&is_verified=false&limit=2{cursor and f'&cursor={cursor}'}", token=admin)
        seen += [user["email"] for user in page.data]
        cursor = page.body["page"]["next_cursor"]
    assert seen == emails[::-1]
    assert up.call("GET", f"/users?email={emails[0].upper()}&role=member", token=admin).data[0]["email"] == emails[0]
    for bad in ("role=king", "cursor=x", "created_after=yesterday", "is_active=maybe", "q=", "shoe=41"):
        assert up.call("GET", f"/users?{bad}", token=admin).status == 400, bad


def test_a_profile_is_kept_and_its_faults_are_named(up: Up) -> None:
    ada = up.join()
    body = {"avatar_url": "https://example.org/a.png", "bio": "Hello", "preferences": {"theme": {"dark": True}}}
    assert put(up, "/users/me/profile", ada["token"], body).status == 200
    read = up.call("GET", f"/users/{ada['user_id']}/profile", token=ada["token"])
    assert {name: read.data[name] for name in body} == body
    bad = put(up, "/users/me/profile", ada["token"], {"avatar_url": "javascript:x", "preferences": {"a": "\0"}})
    assert bad.status == 400
    bad = put(up, "/users/me/profile", ada["token"], {"avatar_url": "javascript:x", "preferences": {"a": "x" * 9000}})
    assert [each["field"] for each in bad.body["error"]["details"]] == ["avatar_url", "preferences"]
    assert put(up, "/users/me/profile", ada["token"], {}, read.headers["ETag"]).status == 200
    assert put(up, "/users/me/profile", ada["token"], {}, read.headers["ETag"]).status == 412


def test_there_is_a_key_set_and_no_secret_in_it(up: Up) -> None:
    answer = request("GET", up.api.removesuffix("/api/v1") + "/.well-known/jwks.json")
    assert answer.status == 200
    assert answer.body == {"keys": []}
    assert answer.headers["Content-Type"] == "application/jwk-set+json"


def test_an_account_with_an_address_that_is_refused_now_logs_in_and_keeps_it(up: Up) -> None:
    long = f"{'a' * 65}@{secrets.token_hex(5)}.example.org"
    ada = up.join()
    up.execute("update users set email = $1 where user_id = $2", long, ada["user_id"])
    for typed in (long, f" {long.upper()} "):
        token = up.log_in(typed)
    assert up.call("POST", "/auth/password/forgot", body={"email": long}).status == 202
    until("the mail", lambda: [each for each in up.mails_to(long) if "Reset" in each["subject"]])
    got = up.call("GET", "/users/me", token=token).data
    assert got["email"] == long
    again = put(up, "/users/me", token, {"email": long, "full_name": got["full_name"]})
    assert (again.status, again.data) == (200, got)
    admin, _, _ = up.people()
    assert up.call("GET", f"/users?email={long}", token=admin).data == [got]
    refused = put(up, "/users/me", token, {"email": f"b{long}", "full_name": got["full_name"]})
    assert (refused.status, refused.body["error"]["field"]) == (400, "email")
    taken = {"email": long, "password": PASSWORD, "full_name": "Ada Lovelace", "terms_accepted": True}
    assert up.call("POST", "/auth/register", body=taken).status == 400


def test_preferences_that_an_earlier_release_stored_in_a_longer_form_can_be_put_again_and_not_grow(up: Up) -> None:
    ada = up.join()
    numbers = ",".join(["1" + "0" * 308] * 30)
    up.execute(
        "update user_profiles set preferences = $1::text::json where user_id = $2",
        f'{{"n": [{numbers}]}}',
        ada["user_id"],
    )
    got = up.call("GET", "/users/me/profile", token=ada["token"]).data
    assert put(up, "/users/me/profile", ada["token"], {"preferences": got["preferences"]}).status == 200
    got["preferences"]["n"].append(1)
    grown = put(up, "/users/me/profile", ada["token"], {"preferences": got["preferences"]})
    assert (grown.status, grown.body["error"]["field"]) == (400, "preferences")


@pytest.mark.parametrize("text", ["\u200b", "\u202eabc", "a\x0cb", "\u2800", "a\x85b", "\ufeff"])
def test_bodies_and_bios_show_something_and_hold_no_controls_as_titles_and_names_do(up: Up, text: str) -> None:
    ada = up.join()
    for method, path, body in (
        ("POST", "/content", {"title": text, "body": "b"}),
        ("POST", "/content", {"title": "t", "body": text}),
        ("PUT", "/users/me/profile", {"bio": text}),
        ("PUT", "/users/me", {"full_name": f"{text} "}),
    ):
        answer = request(method, up.api + path, body=body, headers={"Authorization": f"Bearer {ada['token']}"})
        field = {"/content": "title" if body.get("title") == text else "body"}.get(path, next(iter(body)))
        assert (answer.status, answer.body["error"]["field"]) == (400, field)


def test_a_body_may_have_lines_and_tabs_and_be_empty_and_is_kept_as_it_was_sent(up: Up) -> None:
    ada = up.join()
    for body in ("", "  \n", "a\tb\r\nc", "e\u0301", "\u05d0\u200f!"):
        made = up.call("POST", "/content", token=ada["token"], body={"title": "t", "body": body})
        assert (made.status, made.data["body"]) == (201, body)


def test_registrations_are_counted_for_the_metrics(up: Up) -> None:
    def counted() -> float:
        page = request("GET", f"{up.operators}/metrics").body.decode()
        return float(re.findall(r"^users_registered_total (\S+)$", page, re.MULTILINE)[0])

    before = counted()
    account = up.register()
    up.register(account["email"])  # nobody has proved it: it is another one
    until("their events", lambda: counted() >= before + 2)


def test_the_languages_of_a_registration_are_the_browsers_and_can_be_changed(up: Up) -> None:
    address = f"{secrets.token_hex(6)}@example.org"
    body = {"email": address, "password": PASSWORD, "full_name": "Ada", "terms_accepted": True}
    headers = {"Accept-Language": "es, de-AT;q=0.9, en;q=0.5"}
    assert request("POST", f"{up.api}/auth/register", body=body, headers=headers).status == 201
    until("a German mail", lambda: any("Bestätigen" in mail["subject"] for mail in up.mails_to(address)))
    ada = up.join()
    changed = put(up, "/users/me/profile", ada["token"], {"languages": ["fr-CH", "de"]})
    assert (changed.status, changed.data["languages"]) == (200, ["fr-CH", "de"])
    assert put(up, "/users/me/profile", ada["token"], {"bio": "B"}).data["languages"] == ["fr-CH", "de"]
    for bad in (["d"], ["de_DE"], ["de"] * 6, "de", [1]):
        assert put(up, "/users/me/profile", ada["token"], {"languages": bad}).status == 400

"""One member against another, and the links of mails in wrong hands: nothing is read, changed or spent."""

import secrets
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from kit.people import TUS, Person, UserFactory
from kit.running import PASSWORD, Answer, Up, request, until

from callboard.actors.infrastructure.token_signer import fingerprint
from callboard.http.api.routes import ROUTES
from callboard.http.server.routing import Route, shape_of

NEW = "Another-Lantern-43"
BODIES: dict[tuple[str, str], Any] = {
    ("PUT", "/users/{user_id}"): {"full_name": "Eve Was Here"},
    ("PATCH", "/users/{user_id}"): {"role": "admin"},
    ("PUT", "/users/{user_id}/profile"): {"bio": "Eve was here."},
    ("PUT", "/content/{content_id}"): {"title": "Eve was here", "body": ""},
    ("POST", "/content/{content_id}/transitions"): {"action": "submit_for_review"},
    ("PUT", "/content/{content_id}/schedule"): {"publish_at": None},
    ("POST", "/content/{content_id}/comments"): {"body": "Eve was here."},
    ("PUT", "/comments/{comment_id}"): {"body": "Eve was here."},
    ("POST", "/comments/{comment_id}/moderations"): {"action": "hide", "reason": "Eve"},
    ("POST", "/comments/{comment_id}/reports"): {"reason": "spam"},
}
OF_SOMEBODY = [route for route in ROUTES if "_id}" in route.path and not route.absolute]


def call(up: Up, route: Route[Any], path: str, token: str) -> Answer:
    headers = {"If-Match": '"1"'} if path.startswith(("/content/", "/comments/")) else {}
    path += "?old=1&new=1" if path.endswith("/diff") else ""
    headers |= TUS if path.startswith("/uploads/") else {}
    body = BODIES.get((route.method, route.path))
    return request(route.method, up.api + path, token=token, body=body, headers=headers)


def notified(up: Up, user_id: str) -> str:
    """The id of a notification of somebody's."""
    notification_id = str(uuid4())
    up.execute(
        "insert into notifications (notification_id, user_id, seq, kind) values ($1, $2, 1, 'content_published')",
        notification_id,
        user_id,
    )
    return notification_id


@pytest.mark.parametrize("route", OF_SOMEBODY, ids=lambda route: f"{route.method} {route.path}")
def test_what_is_anothers_is_not_there_for_a_member_by_whatever_route(up: Up, route: Route[Any]) -> None:
    ada, eve = up.join(), up.join()
    draft = up.call("POST", "/content", token=ada["token"], body={"title": "Ada's", "body": "b"}).data
    session_id = up.call("GET", "/auth/sessions", token=ada["token"]).data[0]["session_id"]
    people, owner = UserFactory(up.facts), Person("member", UUID(ada["user_id"]), ada["email"], UUID(session_id))
    ids = {
        "user_id": ada["user_id"],
        "session_id": session_id,
        "content_id": draft["content_id"],
        "notification_id": notified(up, ada["user_id"]),
        "comment_id": str(people.comment(owner, UUID(draft["content_id"]))),
        "upload_id": str(people.upload(owner)),
        "job_id": str(people.job(owner, "waiting")),
        "key_id": str(uuid4()),  # producers' keys belong to no user, and only admins see them
    }
    name, *others = (each for each in route.parameters if each.endswith("_id"))
    assert name in ids, "make one of Ada's, and give its id to Eve"
    whole = route.path
    for other, made in {**{each: ids[each] for each in others}, "revision": "1"}.items():
        whole = whole.replace(f"{{{other}}}", made)
    paths = (whole.replace(f"{{{name}}}", each) for each in (ids[name], str(uuid4())))
    theirs, nobodys = (call(up, route, path, eve["token"]) for path in paths)
    assert theirs.status == nobodys.status
    assert route.method == "HEAD" or theirs.code == nobodys.code
    assert theirs.status in (403, 404)
    assert up.call("GET", "/users/me", token=ada["token"]).data["full_name"] == "Ada Penwright"
    assert up.call("GET", f"/content/{draft['content_id']}", token=ada["token"]).data == draft


def test_no_body_has_a_field_that_is_not_declared_and_none_sets_what_others_decide() -> None:
    bodies = {shape_of(route).body for route in ROUTES}
    structs = {each for each in bodies if isinstance(each, type) and issubclass(each, msgspec.Struct)}
    assert all(each.__struct_config__.forbid_unknown_fields for each in structs)
    fields = {(each.__name__, field.encode_name) for each in structs for field in msgspec.structs.fields(each)}
    decided = {"role", "is_active", "is_verified", "author_id", "status", "version", "created_at", "user_id"}
    assert {each for each in fields if each[1] in decided} == {
        ("UserChange", "role"),
        ("UserChange", "is_active"),
        ("FlagBody", "user_id"),
    }


@dataclass
class Link:
    """A link of a mail, and what uses it."""

    path: str
    body: dict[str, str]

    def use(self, up: Up, token: str) -> Answer:
        return up.call("POST", self.path, body={"token": token, **self.body})


VERIFY = Link("/auth/verify-email", {})
REFUSE = Link("/auth/verify-email/refuse", {})
CONFIRM = Link("/auth/verify-email", {})
UNDO = Link("/auth/undo-email-change", {})
RESET = Link("/auth/password/reset", {"new_password": NEW})
LINKS = {"verify": VERIFY, "refuse": REFUSE, "confirm": CONFIRM, "undo": UNDO, "reset": RESET}


def mailed(up: Up, kind: str) -> str:
    """The secret of a fresh link of this kind, of an account of its own."""
    if kind in ("verify", "refuse"):
        return up.mail_token(up.register()["email"])
    ada, other = up.join(), f"{secrets.token_hex(6)}@example.net"
    if kind == "reset":
        assert up.call("POST", "/auth/password/forgot", body={"email": ada["email"]}).status == 202
        return token_to(up, ada["email"], "/reset-password")
    changed = request(
        "PUT", f"{up.api}/users/me", token=ada["token"], body={"full_name": "Ada Lovelace", "email": other}
    )
    assert changed.status == 200
    token = token_to(up, other, "/confirm-email")
    if kind == "undo":
        assert CONFIRM.use(up, token).status == 200
        token = token_to(up, ada["email"], "/undo-email-change")
    return token


def token_to(up: Up, email: str, page: str) -> str:
    def seen() -> str | None:
        texts = (mail["text"] for mail in up.mails_to(email))
        found = (text.partition(f"{page}?token=")[2].split(maxsplit=1) for text in texts if f"{page}?token=" in text)
        return next((each[0] for each in found), None)

    return until(f"the mail to {email}", seen)


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_is_good_for_one_thing_once_and_in_its_time(up: Up, kind: str) -> None:
    token, link = mailed(up, kind), LINKS[kind]
    for garbage in ("", "x", token[:-1], f"{token}x", f" {token}", token.swapcase(), "x" * 128):
        assert link.use(up, garbage).code == "AUTH_MAIL_TOKEN_INVALID_009"
    same = {"verify", "refuse", "confirm"} if kind in ("verify", "refuse", "confirm") else {kind}
    for other in LINKS.keys() - same:
        assert LINKS[other].use(up, token).code == "AUTH_MAIL_TOKEN_INVALID_009"
    assert link.use(up, token).status == 200
    for every in LINKS.values():
        assert every.use(up, token).code == "AUTH_MAIL_TOKEN_INVALID_009"
    late = mailed(up, kind)
    up.execute("update mail_tokens set expires_at = now() where token_hash = $1", fingerprint(late))
    assert link.use(up, late).code == "AUTH_MAIL_TOKEN_INVALID_009"


def test_a_deleted_a_disabled_and_a_demoted_account_lose_what_they_had_at_once(up: Up) -> None:
    admin, _, _ = up.people()
    ada = up.join()
    pair = up.call("POST", "/auth/login", body={"email": ada["email"], "password": PASSWORD}).data
    reset = up.call("POST", "/auth/password/forgot", body={"email": ada["email"]})
    assert reset.status == 202
    link = token_to(up, ada["email"], "/reset-password")
    path = f"/users/{ada['user_id']}"
    for role, status in (("editor", 200), ("member", 403)):
        assert up.call("PATCH", path, token=admin, body={"role": role}).status == 200
        assert up.call("GET", "/stats", token=ada["token"]).status == status
    assert up.call("PATCH", path, token=admin, body={"is_active": False}).status == 200
    for token in (ada["token"], pair["access_token"]):
        assert up.call("GET", "/users/me", token=token).status == 401
    assert up.call("POST", "/auth/refresh", body={"refresh_token": pair["refresh_token"]}).status == 401
    assert RESET.use(up, link).code == "AUTH_MAIL_TOKEN_INVALID_009"
    assert up.call("PATCH", path, token=admin, body={"is_active": True}).status == 200
    assert up.call("GET", "/users/me", token=ada["token"]).status == 401
    again = up.log_in(ada["email"])
    assert up.call("DELETE", "/users/me", token=again).status == 204
    assert up.call("GET", "/users/me", token=again).status == 401
    assert RESET.use(up, link).code == "AUTH_MAIL_TOKEN_INVALID_009"

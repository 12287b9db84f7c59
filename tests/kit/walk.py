"""The walk: one good request for each route of the API, of the documents and of the pages."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from callboard.http.api.routes import ROUTES
from callboard.http.server.raw_request import Settings
from callboard.http.server.routing import Route
from callboard.http.server.server import full_table
from kit.domain import PASSWORD
from kit.people import TUS, Person, UserFactory
from kit.running import Answer, Up, request

NEW_PASSWORD = "Another-Lantern-43"
NAMES = {f"{route.method} {route.path}": route for route in full_table(ROUTES, {}, Settings(), documents=True)}


class Asking(NamedTuple):
    """A request that may be sent."""

    name: str
    method: str
    url: str
    token: str = ""
    body: Any = None
    headers: Mapping[str, str] = {}

    def send(self, timeout_s: float = 10.0) -> Answer:
        return request(
            self.method, self.url, token=self.token, body=self.body, headers=self.headers, timeout_s=timeout_s
        )


class Walk:
    """One request for each route that is good in itself: what it is answered with is a matter of who asks."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.people = UserFactory(up.facts)

    def ask(self, route: Route[Any], token: str, owner: Person) -> Answer:
        """Ask for something that is `owner`'s."""
        return self.prepare(route, token, owner).send()

    def prepare(self, route: Route[Any], token: str, owner: Person) -> "Asking":
        """Make what is asked for, `owner`'s, and the request for it."""
        name = f"{route.method} {route.path}"
        path = route.path
        makers: dict[str, Callable[[], UUID | str]] = {
            "user_id": lambda: owner.user_id,
            "session_id": lambda: owner.session_id,
            "content_id": lambda: self.people.draft(owner, is_deleted=route.path.endswith("/undelete")),
            "revision": lambda: "1",
            "comment_id": lambda: self.people.comment(owner),
            "article_id": uuid4,
            "upload_id": lambda: self.people.upload(owner, is_complete=route.tag != "uploads" or "file" in route.path),
            "job_id": lambda: self.people.job(owner, "failed" if route.path.endswith("/retry") else "waiting"),
            "notification_id": uuid4,
            "key_id": uuid4,
            "name": lambda: "enable_new_ui",
            "slug": self.people.category,
            "category": self.people.category,
        }
        for parameter in route.parameters:
            path = path.replace(f"{{{parameter}}}", str(makers[parameter]()))
        if route.path.startswith("/content/search"):
            path += "?q=a"
        if route.path == "/content/{content_id}/diff":
            path += "?old=1&new=1"
        if route.path == "/stats/top":
            path += "?metric=page_view"
        if route.path == "/exports":
            path += "?token=x"
        if route.path == "/notifications/unsubscribe":
            path += f"?token={'A' * 22}.{'A' * 43}"
        headers = {"If-Match": '"1"'} if name in ("PUT /content/{content_id}", "PUT /comments/{comment_id}") else {}
        headers |= TUS if route.tag == "uploads" else {}
        headers |= {"X-Request-Timeout": "0.2"} if route.path == "/notifications/stream" else {}
        base = self.up.api.removesuffix("/api/v1") if route.absolute else self.up.api
        return Asking(name, route.method, base + path, token, self.body(name, owner), headers)

    def body(self, name: str, owner: Person) -> Any:
        email = f"{uuid4().hex}@example.org"
        return {
            "POST /auth/register": {"email": email, "password": PASSWORD, "full_name": "Ao", "terms_accepted": True},
            "POST /users/me/export/download": {"token": "x"},
            "POST /auth/verify-email": {"token": "x"},
            "POST /auth/verify-email/refuse": {"token": "x"},
            "POST /auth/undo-email-change": {"token": "x"},
            "POST /auth/step-up": {"password": PASSWORD},
            "POST /auth/resend-verification": {"email": email},
            "POST /auth/login": {"email": owner.email, "password": PASSWORD},
            "POST /auth/refresh": {"refresh_token": "x"},
            "POST /auth/password/forgot": {"email": email},
            "POST /auth/password/reset": {"token": "x", "new_password": NEW_PASSWORD},
            "POST /auth/password/change": {"current_password": PASSWORD, "new_password": NEW_PASSWORD},
            "PUT /users/me": {"full_name": "Bo"},
            "PUT /users/{user_id}": {"full_name": "Bo"},
            "PATCH /users/{user_id}": {"is_active": True},
            "PUT /users/me/profile": {"bio": "b"},
            "PUT /users/{user_id}/profile": {"bio": "b"},
            "POST /content": {"title": "a", "body": "b"},
            "POST /content/{content_id}/comments": {"body": "a"},
            "PUT /comments/{comment_id}": {"body": "c"},
            "POST /comments/{comment_id}/moderations": {"action": "hide", "reason": "b"},
            "POST /comments/{comment_id}/reports": {"reason": "spam"},
            "POST /content/import": {"title": "a", "body": "b"},
            "POST /users/import": {"email": email, "full_name": "Ao"},
            "PUT /content/{content_id}": {"title": "c", "body": "d"},
            "POST /content/{content_id}/transitions": {"action": "submit_for_review"},
            "PUT /content/{content_id}/schedule": {"publish_at": None, "expire_at": None},
            "PUT /users/me/avatar": {"upload_id": str(uuid4())},
            "PUT /flags/{name}": {"is_on": False},
            "POST /categories": {"name": email},
            "PUT /categories/{slug}": {"name": email},
            "POST /producer-keys": {"name": email, "types": ["activity.recorded"], "sources": ["/a"]},
            "PUT /notifications/preferences": {"digest": "daily"},
            "POST /notifications/unsubscribe": {},
        }.get(name)

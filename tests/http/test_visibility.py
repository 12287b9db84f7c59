"""Who sees an article: every state of it, by every role, through every door, walked on two running processes.

DOORS says it, and each other GET route is in CLOSED with its reason: a new route fails until somebody has decided. A
word that is nowhere else is in every text of an article; a door shows the article if the word is in its answer.
"""

import secrets
import string
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from kit.people import Person, UserFactory
from kit.running import Answer, request, until
from kit.twins import ProcessGroup

from callboard.http.api.routes import ROUTES
from callboard.http.server.raw_request import Settings
from callboard.http.server.routing import Access
from callboard.http.server.server import full_table

ROLES = ("stranger", "member", "other author", "author", "editor", "admin")
EVERYBODY, STAFF, NOBODY = frozenset(ROLES), frozenset({"editor", "admin"}), frozenset[str]()
AUTHOR = frozenset({"author"})
OWN = STAFF | AUTHOR

# The columns of an article in each state, as the workflow leaves them.
STATES = {
    "draft": "status = 'draft'",
    "pending_review": "status = 'pending_review'",
    "approved": "status = 'approved'",
    "published": "status = 'published', published_at = now()",
    "archived": "status = 'archived', published_at = now()",
    "scheduled": "status = 'approved', publish_at = now() + interval '1 hour'",
    "to expire": "status = 'published', published_at = now(), expire_at = now() + interval '1 hour'",
    "deleted": "status = 'draft', deleted_at = now()",
    "deleted later": "status = 'archived', published_at = now(), deleted_at = now()",
}


class Door(NamedTuple):
    """A GET route with the query that leads to the article, and the roles that see it: `shown` is in their answers."""

    path: str
    published: frozenset[str]
    hidden: frozenset[str]
    deleted: frozenset[str] = NOBODY
    shown: str = "{word}"

    def sees(self, role: str, state: str) -> bool:
        if "deleted_at" in STATES[state]:
            return role in self.deleted
        return role in (self.published if is_public(state) else self.hidden)


def is_public(state: str) -> bool:
    return "'published'" in STATES[state]


DOORS = (
    Door("/content/{content_id}", EVERYBODY, OWN),
    Door("/content", EVERYBODY, OWN),
    Door("/content?author={author_id}", EVERYBODY, OWN),
    Door("/content?status={status}", EVERYBODY, OWN),
    Door("/content?tag={word}", EVERYBODY, OWN),
    Door("/tags?limit=100", EVERYBODY, NOBODY),
    Door("/content/search?q={word}", EVERYBODY, NOBODY),
    Door("/content/search/facets?q={word}", EVERYBODY, NOBODY, shown="'counted': 1"),
    Door("/content/deleted?limit=100", NOBODY, NOBODY, STAFF),
    Door("/content/{content_id}/comments", EVERYBODY, OWN),
    Door("/comments/{comment_id}", EVERYBODY, OWN),
    Door("/comments/{comment_id}/replies", EVERYBODY, OWN),
    Door("/comments/{comment_id}/moderations", STAFF, STAFF),
    Door("/comments/{comment_id}/reports", STAFF, STAFF),
    Door("/comments/reported?limit=100", STAFF, STAFF),
    Door("/content/{content_id}/attachments", EVERYBODY, OWN),
    Door("/uploads/{upload_id}/file", EVERYBODY, OWN, AUTHOR, shown="STORE_LOST"),  # said to whoever may download it
    Door("/content/{content_id}/transitions", OWN, OWN),
    Door("/content/{content_id}/revisions", OWN, OWN),
    Door("/content/{content_id}/revisions/{revision}", OWN, OWN),
    Door("/content/{content_id}/diff?old=1&new=2", OWN, OWN),
    Door("/feed.atom", EVERYBODY, NOBODY),
    Door("/sitemap-articles.xml", EVERYBODY, NOBODY, shown="{content_id}"),
    Door("/notifications", AUTHOR, AUTHOR, AUTHOR),
    Door("/audit", NOBODY, NOBODY),
)
OF_THE_SITE = ("/feed.atom", "/sitemap")  # beside the API, and not below it
ONES_OWN = "one's own account, whose data names no article"
PROGRAMS = "what programs and operators count or do"
FIXED = "the same page or document for everybody, made of no data"
CLOSED = {
    "GET /auth/sessions": ONES_OWN,
    "GET /users": "accounts, for admins",
    "GET /users/me": ONES_OWN,
    "GET /users/me/profile": ONES_OWN,
    "GET /users/{user_id}": ONES_OWN,
    "GET /users/{user_id}/profile": ONES_OWN,
    "GET /users/{user_id}/avatar": "an image that its user shows to everybody",
    "GET /exports": "refuses every link",
    "GET /jobs/{job_id}": "one's own import, by its number: test_authorisation has it",
    "GET /notifications/stream": "the rows of GET /notifications: test_notification_stream has it",
    "GET /notifications/unread-count": "a number of one's own",
    "GET /notifications/preferences": ONES_OWN,
    "GET /stats": PROGRAMS,
    "GET /stats/top": PROGRAMS,
    "GET /producer-keys": PROGRAMS,
    "GET /uploads": "one's own uploads, whatever they are attached to",
    "GET /uploads/{upload_id}": "the same",
    "GET /flags": PROGRAMS,
    "GET /flags/{name}": PROGRAMS,
    "GET /health": PROGRAMS,
    "GET /ready": PROGRAMS,
    "GET /errors": FIXED,
    "GET /robots.txt": FIXED,
    "GET /categories": "categories, which editors keep",
    "GET /categories/{slug}": "categories, which editors keep",
    "GET /categories/{category}/feed.atom": "the entries of GET /feed.atom that are in a category: test_feeds has it",
    "GET /sitemap.xml": "the numbers of the pages of the sitemap",
    **{
        f"GET {path}": FIXED
        for path in (
            *("/", "/docs", "/docs/", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"),
            *("/docs/favicon-32x32.png", "/openapi.json", "/asyncapi.json", "/.well-known/jwks.json"),
            *("/verify-email", "/confirm-email", "/undo-email-change", "/reset-password", "/forgot-password"),
            *("/export", "/notifications/unsubscribe", "/content/{article_id}", "/pages/pages.css", "/pages/pages.js"),
        )
    },
}
CONTENT = "insert into content (content_id, author_id, title, body, body_html, tags) values ($1, $2, $3, $3, $3, $4)"
REVISION = (
    "insert into content_revisions (content_id, revision, author_id, editor_id, title, body, language, written_at) "
    "values ($1, 1, $2, $2, $3, $3, 'english', now())"
)
TRANSITION = (
    "insert into content_transitions (content_id, actor_id, action, from_status, to_status, note) "
    "values ($1, $2, 'edit', 'draft', 'draft', $3)"
)
NOTIFICATION = (
    "insert into notifications (notification_id, user_id, seq, kind, data) "
    "select $1, $2, coalesce((select max(seq) from notifications where user_id = $2), 0) + 1, 'content_rejected', "
    "jsonb_build_object('content_id', $3::text, 'title', $4::text)"
)
COMMENT = (
    "insert into comments (comment_id, content_id, author_id, parent_id, depth, body, body_html, reported_at) "
    "values ($1, $2, $3, $4, $5, $6, $6, now())"
)
UPLOAD = (
    "insert into uploads (upload_id, user_id, kind, size, reserved, received, filename, media_type, completed_at) "
    "values ($1, $2, 'whole', 1, 1, 1, $3, 'image/png', now())"
)
ATTACHMENT = "insert into content_attachments (content_id, upload_id) values ($1, $2)"
REPORT = "insert into comment_reports (comment_id, reporter_id, reason, note) values ($1, $2, 'spam', $3)"
DECISION = "insert into comment_moderations (comment_id, actor_id, action, reason) values ($1, $2, 'show', $3)"
# A request for each route of an article that is good in itself.
BODIES: Mapping[str, Any] = {
    "PUT /content/{content_id}": {"title": "a", "body": "b"},
    "PUT /content/{content_id}/schedule": {},
    "POST /content/{content_id}/comments": {"body": "a"},
    "PUT /comments/{comment_id}": {"body": "a"},
    "POST /comments/{comment_id}/moderations": {"action": "hide"},
    "POST /comments/{comment_id}/reports": {"reason": "spam"},
    "POST /content/{content_id}/transitions": {"action": "archive"},
}
QUERIES = {"GET /content/{content_id}/diff": "?old=1&new=2"}
ALL_ROUTES = full_table(ROUTES, {}, Settings(), documents=True)
THINGS = ("content_id", "comment_id")
OF_CONTENT = [route for route in ROUTES if not route.parameters.keys().isdisjoint(THINGS)]


class Article(NamedTuple):
    """An article with a word of its own."""

    content_id: UUID
    word: str
    status: str
    comment_id: UUID | None = None
    upload_id: UUID | None = None
    revision: int = 1


class Walk:
    """The people, an article in each state, and the two processes, which are asked in turn."""

    def __init__(self, pair: ProcessGroup) -> None:
        self.both = list(pair.sites)
        self.sites = cycle(self.both)
        self.factory = UserFactory(pair.environment)
        makers = {role: role if role in STAFF else "member" for role in ROLES}
        self.people = {role: self.factory.person(kind) for role, kind in makers.items()}
        self.people["stranger"] = self.people["stranger"]._replace(token="")
        self.author = self.people["author"]
        self.commenter = self.factory.person("member")
        self.articles = {state: self.article(self.author, columns) for state, columns in STATES.items()}
        self.article(self.people["other author"], STATES["published"])

    def article(self, author: Person, columns: str) -> Article:
        """An article with its word in all of its texts, and in what belongs to it."""
        content_id, comment_id, upload_id, word = (
            uuid4(),
            uuid4(),
            uuid4(),
            "".join(secrets.choice(string.ascii_lowercase) for _ in range(14)),
        )
        self.factory.execute(
            (CONTENT, content_id, author.user_id, f"About {word}", [word]),
            (f"update content set revision = 2, {columns} where content_id = $1", content_id),  # noqa: S608 - of STATES
            (REVISION, content_id, author.user_id, f"About {word}"),
            (TRANSITION, content_id, author.user_id, f"Note {word}"),
            (NOTIFICATION, uuid4(), author.user_id, str(content_id), f"About {word}"),
            (COMMENT, comment_id, content_id, self.commenter.user_id, None, 0, f"Comment {word}"),
            (COMMENT, uuid4(), content_id, self.commenter.user_id, comment_id, 1, f"Reply {word}"),
            (UPLOAD, upload_id, author.user_id, f"File {word}"),
            (ATTACHMENT, content_id, upload_id),
            (REPORT, comment_id, self.people["other author"].user_id, f"Report {word}"),
            (DECISION, comment_id, self.people["editor"].user_id, f"Reason {word}"),
        )
        return Article(content_id, word, columns.split("'")[1], comment_id, upload_id)

    def path(self, door: Door, article: Article) -> str:
        return door.path.format(**article._asdict(), author_id=self.author.user_id)

    def ask(self, path: str, role: str, method: str = "GET", site: Any = None, **more: Any) -> Answer:
        base = (site or next(self.sites)).api
        base = base.removesuffix("/api/v1") if path.startswith(OF_THE_SITE) else base
        return request(method, base + path, token=self.people[role].token, **more)

    def shows(self, door: Door, answer: Answer, article: Article) -> bool:
        assert answer.status < 500, answer
        return door.shown.format(**article._asdict()) in str(answer.body)

    def set_advanced_search(self, *, is_on: bool) -> None:
        name = "enable_advanced_search"
        assert self.ask(f"/flags/{name}", "admin", "PUT", body={"is_on": is_on}).status == 200
        for site in self.both:
            until("the flag", lambda site=site: self.ask("/flags", "stranger", site=site).data[name] is is_on)

    def published(self) -> Article:
        """An article that has come through the workflow, so that its changes are those of the product."""
        word = "".join(secrets.choice(string.ascii_lowercase) for _ in range(14))
        made = self.ask("/content", "author", "POST", body={"title": f"About {word}", "body": word, "tags": [word]})
        article = Article(UUID(made.data["content_id"]), word, "published", upload_id=uuid4())
        self.factory.execute(
            (UPLOAD, article.upload_id, self.author.user_id, f"File {word}"),
            (ATTACHMENT, article.content_id, article.upload_id),
        )
        for role, action in (("author", "submit_for_review"), ("editor", "approve"), ("editor", "publish")):
            self.move(article, role, action)
        path = f"/content/{article.content_id}/comments"
        comment = self.ask(path, "member", "POST", body={"body": f"Comment {word}"}).data["comment_id"]
        self.ask(path, "member", "POST", body={"body": f"Reply {word}", "parent_id": comment})
        return article._replace(comment_id=UUID(comment))

    def move(self, article: Article, role: str, action: str) -> None:
        moved = self.ask(f"/content/{article.content_id}/transitions", role, "POST", body={"action": action})
        assert moved.status == 200, moved


@pytest.fixture(scope="module")
def walk(pair: ProcessGroup) -> Iterator[Walk]:
    walk = Walk(pair)
    walk.set_advanced_search(is_on=True)
    yield walk
    walk.set_advanced_search(is_on=False)
    walk.factory.execute(("delete from content where author_id = $1", walk.author.user_id))


def test_every_get_route_is_a_door_or_is_closed_for_a_reason() -> None:
    doors = {f"GET {door.path.partition('?')[0]}" for door in DOORS}
    routes = {f"{route.method} {route.path}" for route in ALL_ROUTES if route.method == "GET"}
    assert routes - doors - CLOSED.keys() == set(), (
        "say in DOORS who sees an article there, or in CLOSED why nobody does"
    )
    assert (doors | CLOSED.keys()) - routes == set()
    assert doors & CLOSED.keys() == set()


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.path)
def test_every_door_shows_an_article_to_whom_the_table_says_and_to_nobody_else(walk: Walk, door: Door) -> None:
    seen = {
        (state, role)
        for state, article in walk.articles.items()
        for role in ROLES
        if walk.shows(door, walk.ask(walk.path(door, article), role), article)
    }
    assert seen == {(state, role) for state in STATES for role in ROLES if door.sees(role, state)}


@pytest.mark.parametrize("route", OF_CONTENT, ids=lambda route: f"{route.method} {route.path}")
def test_a_hidden_article_is_answered_like_one_that_does_not_exist(walk: Walk, route: Any) -> None:
    name = f"{route.method} {route.path}"
    sent = {"body": BODIES.get(name), "headers": {"If-Match": '"1"'}}
    for role in ("stranger", "member", "other author"):
        path = route.path + QUERIES.get(name, "")
        nothing = walk.ask(
            path.format(**dict.fromkeys((*THINGS, "upload_id"), uuid4()), revision=1), role, route.method, **sent
        )
        needs_token = route.access not in (Access.PUBLIC, Access.OPTIONAL)
        refused = 403 if route.access in (Access.EDITOR, Access.ADMIN) else 404
        assert nothing.status == (401 if role == "stranger" and needs_token else refused), nothing
        for state, article in walk.articles.items():
            if is_public(state):
                continue
            hidden = walk.ask(path.format(**article._asdict()), role, route.method, **sent)
            error, other = (each.body["error"] for each in (hidden, nothing))
            assert (hidden.status, error["code"], error["message"]) == (nothing.status, other["code"], other["message"])
            differing = {"Date", "X-Request-ID", "RateLimit", "Connection"}  # the last: whether the body had come
            assert {k: v for k, v in hidden.headers.items() if k not in differing} == {
                k: v for k, v in nothing.headers.items() if k not in differing
            }


PUBLIC_DOORS = [door for door in DOORS if "stranger" in door.published]


def test_no_cache_shows_what_has_just_been_archived(walk: Walk) -> None:
    """Each door is warm in both processes; the first question after the answer to the change is conditional."""
    for archiving in walk.both:
        article = walk.published()
        tags: dict[tuple[Door, Any], dict[str, str]] = {}  # the conditions of each warm answer
        for door in PUBLIC_DOORS * 2:
            for site in walk.both:
                answer = walk.ask(walk.path(door, article), "stranger", site=site)
                assert walk.shows(door, answer, article), door
                given = {"If-None-Match": answer.headers["ETag"]} if "ETag" in answer.headers else {}
                if "Last-Modified" in answer.headers:
                    given = {**given, "If-Modified-Since": answer.headers["Last-Modified"]}
                tags[door, site] = given
        body = {"action": "archive"}
        path = f"/content/{article.content_id}/transitions"
        assert walk.ask(path, "editor", "POST", site=archiving, body=body).status == 200
        for (door, site), given in tags.items():
            conditions = [{}, *({name: value} for name, value in given.items()), given]
            for headers in conditions:
                answer = walk.ask(walk.path(door, article), "stranger", site=site, headers=headers)
                assert answer.status != 304, (door, headers)
                assert not walk.shows(door, answer, article), (door, headers)


def test_no_cache_hides_what_has_just_been_published(walk: Walk) -> None:
    for publishing in walk.both:
        article = walk.published()
        walk.move(article, "editor", "archive")
        for door in PUBLIC_DOORS * 2:
            for site in walk.both:
                assert not walk.shows(door, walk.ask(walk.path(door, article), "stranger", site=site), article)
        for role, action in (("author", "restore"), ("author", "submit_for_review"), ("editor", "approve")):
            walk.move(article, role, action)
        path = f"/content/{article.content_id}/transitions"
        assert walk.ask(path, "editor", "POST", site=publishing, body={"action": "publish"}).status == 200
        for door in PUBLIC_DOORS:
            for site in walk.both:
                assert walk.shows(door, walk.ask(walk.path(door, article), "stranger", site=site), article), door


def test_a_deleted_article_is_not_there_for_anybody_by_its_id(walk: Walk) -> None:
    for role in ROLES:
        for state in ("deleted", "deleted later"):
            article = walk.articles[state]
            for method in ("GET", "PUT", "DELETE"):
                body = BODIES["PUT /content/{content_id}"] if method == "PUT" else None
                path = f"/content/{article.content_id}"
                answer = walk.ask(path, role, method, body=body, headers={"If-Match": "*"} if body else {})
                assert answer.status == (401 if role == "stranger" and method != "GET" else 404), (role, state, answer)


def test_no_cache_shows_what_has_just_expired(walk: Walk, pair: ProcessGroup) -> None:
    worker = pair.start(ROLES="workers")
    try:
        article = walk.published()
        soon = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
        path = f"/content/{article.content_id}"
        assert walk.ask(f"{path}/schedule", "editor", "PUT", body={"expire_at": soon}).status == 200

        def is_gone() -> bool:
            answers = [walk.ask(path, "stranger", site=site) for site in walk.both]
            return all(answer.status == 404 for answer in answers)

        assert not is_gone()
        until("its expiry", is_gone)
        for door in PUBLIC_DOORS:
            for site in walk.both:
                assert not walk.shows(door, walk.ask(walk.path(door, article), "stranger", site=site), article), door
    finally:
        pair.end(worker)

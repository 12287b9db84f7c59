"""Who may call what: every route, with every role, on one's own and on another's, walked on the running system.

The table is what was decided; the routes' Access is held against it, and so are the real answers. A route without a
row fails.
"""

import pytest
from kit.running import Up, request
from kit.walk import NAMES, Walk

from callboard.http.server.routing import Access

# Nobody · on one's own: member, editor, admin · on a member's: another member, an editor, an admin.
TABLE = {
    "POST /auth/register": "201 201 201 201",
    "POST /auth/verify-email": "400 400 400 400",  # with a made-up secret
    "POST /auth/verify-email/refuse": "400 400 400 400",  # the same
    "POST /auth/undo-email-change": "400 400 400 400",  # the same
    "POST /auth/step-up": "401 200 200 200",
    "POST /auth/resend-verification": "202 202 202 202",
    "POST /auth/login": "200 200 200 200",
    "POST /auth/refresh": "401 401 401 401",  # with a made-up token
    "POST /auth/logout": "401 204 204 204",
    "POST /auth/logout-all": "401 204 204 204",
    "GET /auth/sessions": "401 200 200 200",
    "DELETE /auth/sessions/{session_id}": "401 204 204 204 404 404 404",
    "POST /auth/password/forgot": "202 202 202 202",
    "POST /auth/password/reset": "400 400 400 400",  # with a made-up secret
    "POST /auth/password/change": "401 200 200 200",
    "GET /users": "401 403 403 200",
    "GET /users/me": "401 200 200 200",
    "PUT /users/me": "401 200 200 200",
    "DELETE /users/me": "401 204 204 204",
    "GET /users/me/profile": "401 200 200 200",
    "PUT /users/me/profile": "401 200 200 200",
    "POST /users/me/export": "401 202 202 202",
    "POST /users/me/export/download": "401 400 400 400",  # with a made-up secret
    "GET /exports": "410 410 410 410",  # the links of an earlier release
    "GET /users/{user_id}": "401 200 200 200 404 404 200",
    "PUT /users/{user_id}": "401 200 200 200 404 404 200",
    "DELETE /users/{user_id}": "401 204 204 204 404 404 204",
    "PATCH /users/{user_id}": "401 403 403 200 403 403 200",
    "GET /users/{user_id}/profile": "401 200 200 200 404 404 200",
    "PUT /users/{user_id}/profile": "401 200 200 200 404 404 200",
    "POST /content": "401 201 201 201",
    "GET /content": "200 200 200 200",
    "GET /content/search": "200 200 200 200",
    "GET /content/search/facets": "403 403 403 403",  # while enable_advanced_search is off
    "GET /content/{content_id}": "404 200 200 200 404 200 200",  # of a draft
    "PUT /content/{content_id}": "401 200 200 200 404 200 200",
    "DELETE /content/{content_id}": "401 204 204 204 404 204 204",
    "POST /content/{content_id}/transitions": "401 200 200 200 404 200 200",
    "GET /content/{content_id}/transitions": "401 200 200 200 404 200 200",
    "PUT /content/{content_id}/schedule": "401 403 409 409 403 409 409",  # of a draft
    "GET /content/{content_id}/revisions": "401 200 200 200 404 200 200",
    "GET /content/{content_id}/revisions/{revision}": "401 200 200 200 404 200 200",
    "GET /content/{content_id}/diff": "401 200 200 200 404 200 200",
    "POST /content/{content_id}/revisions/{revision}/restore": "401 200 200 200 404 200 200",
    "GET /content/deleted": "401 403 200 200",
    "POST /content/{content_id}/undelete": "401 403 200 200 403 200 200",
    "GET /tags": "200 200 200 200",
    "GET /content/{content_id}/comments": "404 200 200 200 404 200 200",  # of a draft
    "POST /content/{content_id}/comments": "401 409 409 409 404 409 409",  # on a draft
    "GET /comments/reported": "401 403 200 200",
    "GET /comments/{comment_id}": "200 200 200 200 200 200 200",  # on published content
    "PUT /comments/{comment_id}": "401 200 200 200 403 200 200",
    "DELETE /comments/{comment_id}": "401 204 204 204 403 204 204",
    "GET /comments/{comment_id}/replies": "200 200 200 200 200 200 200",
    "POST /comments/{comment_id}/moderations": "401 403 200 200 403 200 200",
    "GET /comments/{comment_id}/moderations": "401 403 200 200 403 200 200",
    "POST /comments/{comment_id}/reports": "401 409 409 409 201 201 201",
    "GET /comments/{comment_id}/reports": "401 403 200 200 403 200 200",
    "POST /uploads": "401 201 201 201",
    "GET /uploads": "401 200 200 200",
    "HEAD /uploads/{upload_id}": "401 200 200 200 404 404 404",
    "GET /uploads/{upload_id}": "401 200 200 200 404 404 404",
    "PATCH /uploads/{upload_id}": "401 204 204 204 404 404 404",
    "DELETE /uploads/{upload_id}": "401 204 204 204 404 404 404",
    "POST /uploads/{upload_id}": "401 204 204 204 404 404 404",  # in place of PATCH
    "GET /uploads/{upload_id}/file": "404 410 410 410 404 404 404",  # whose bytes are lost
    "GET /content/{content_id}/attachments": "404 200 200 200 404 200 200",
    "PUT /content/{content_id}/attachments/{upload_id}": "401 200 200 200 404 404 404",  # of one's own upload
    "DELETE /content/{content_id}/attachments/{upload_id}": "401 404 404 404 404 404 404",  # it is not attached
    "GET /users/{user_id}/avatar": "404 404 404 404 404 404 404",  # there is none
    "PUT /users/me/avatar": "401 404 404 404",  # no upload of theirs
    "DELETE /users/me/avatar": "401 404 404 404",
    "GET /categories": "200 200 200 200",
    "POST /categories": "401 403 201 201",
    "GET /categories/{slug}": "200 200 200 200",
    "PUT /categories/{slug}": "401 403 200 200",
    "DELETE /categories/{slug}": "401 403 204 204",
    "GET /feed.atom": "200 200 200 200",
    "GET /categories/{category}/feed.atom": "200 200 200 200",
    "GET /sitemap.xml": "200 200 200 200",
    "GET /sitemap-articles.xml": "200 200 200 200",
    "GET /robots.txt": "200 200 200 200",
    "GET /notifications": "401 200 200 200",
    "GET /notifications/stream": "401 200 200 200",
    "GET /notifications/unread-count": "401 200 200 200",
    "POST /notifications/{notification_id}/read": "401 404 404 404",  # of an id that is nobody's
    "POST /notifications/read-all": "401 200 200 200",
    "GET /notifications/preferences": "401 200 200 200",
    "PUT /notifications/preferences": "401 200 200 200",
    "POST /notifications/unsubscribe": "400 400 400 400",  # with a made-up link
    "GET /audit": "401 403 403 200",
    "GET /stats": "401 403 200 200",
    "GET /stats/top": "401 403 200 200",
    "GET /asyncapi.json": "200 200 200 200",
    "POST /events": "401 401 401 401",  # people have tokens and no keys
    "POST /producer-keys": "401 403 403 201",
    "GET /producer-keys": "401 403 403 200",
    "DELETE /producer-keys/{key_id}": "401 403 403 404",  # of a made-up key
    "POST /content/import": "401 403 201 201",
    "POST /users/import": "401 403 403 201",
    "GET /jobs/{job_id}": "401 200 200 200 404 404 200",
    "POST /jobs/{job_id}/cancel": "401 200 200 200 404 404 200",
    "POST /jobs/{job_id}/retry": "401 200 200 200 404 404 200",
    "GET /flags": "200 200 200 200",
    "GET /flags/{name}": "401 403 403 200",
    "PUT /flags/{name}": "401 403 403 200",
    "GET /.well-known/jwks.json": "200 200 200 200",
    "GET /errors": "200 200 200 200",
    "GET /health": "200 200 200 200",
    "GET /ready": "200 200 200 200",
    "GET /openapi.json": "200 200 200 200",
    "GET /": "200 200 200 200",
    "GET /docs": "200 200 200 200",
    "GET /docs/": "308 308 308 308",
    "GET /verify-email": "200 200 200 200",
    "GET /confirm-email": "200 200 200 200",
    "GET /undo-email-change": "200 200 200 200",
    "GET /reset-password": "200 200 200 200",
    "GET /forgot-password": "200 200 200 200",
    "GET /export": "200 200 200 200",
    "GET /notifications/unsubscribe": "200 200 200 200",
    "GET /content/{article_id}": "200 200 200 200",  # a page, the same for any id
    "GET /pages/pages.css": "200 200 200 200",
    "GET /pages/pages.js": "200 200 200 200",
    "GET /docs/start.js": "200 200 200 200",
    "GET /docs/swagger-ui.css": "200 200 200 200",
    "GET /docs/swagger-ui-bundle.js": "200 200 200 200",
    "GET /docs/favicon-32x32.png": "200 200 200 200",
}
OF_SOMEBODY = {"user_id", "content_id", "session_id", "job_id", "comment_id", "upload_id"}


GUARDED = [name for name, route in NAMES.items() if route.access not in (Access.PUBLIC, Access.KEY)]


@pytest.fixture(scope="module")
def walk(up: Up) -> Walk:
    return Walk(up)


def test_every_route_has_its_row_and_every_row_its_route() -> None:
    assert NAMES.keys() - TABLE.keys() == set()
    assert TABLE.keys() - NAMES.keys() == set()


def test_the_running_system_has_these_routes_and_no_others(up: Up) -> None:
    """As its document says; what is not in the document are the pages that show it, and those of mails."""
    document = request("GET", up.api.removesuffix("/api/v1") + "/openapi.json").body
    served = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    tabled = {f"{route.method} {route.full_path('/api/v1')}" for route in NAMES.values()}
    pages = {name for name, route in NAMES.items() if route.tag in ("documents", "pages")}
    assert served == tabled - pages


@pytest.mark.parametrize("name", NAMES)
def test_the_table_agrees_with_what_the_route_declares(name: str) -> None:
    route, row = NAMES[name], TABLE[name].split()
    assert len(row) == (7 if OF_SOMEBODY & route.parameters.keys() else 4)
    nobody, member, editor, admin = row[:4]
    if name == "GET /content/search/facets":
        return  # nobody's while its flag is off
    needs_token = route.access not in (Access.PUBLIC, Access.OPTIONAL)
    assert (nobody == "401") == needs_token or name == "POST /auth/refresh"
    assert (member == "403") == (route.access in (Access.EDITOR, Access.ADMIN))
    assert (editor == "403") == (route.access is Access.ADMIN)
    assert admin != "403"
    if route.access is Access.SELF_OR_ADMIN:
        assert row[4:6] == ["404", "404"]


@pytest.mark.parametrize("name", NAMES)
def test_every_route_answers_every_role_as_the_table_says(walk: Walk, name: str) -> None:
    route = NAMES[name]
    person, somebody = walk.people.person, walk.people.person("member")
    answers = [walk.ask(route, "", somebody)]
    answers += [walk.ask(route, asking.token, asking) for asking in map(person, ("member", "editor", "admin"))]
    if OF_SOMEBODY & route.parameters.keys():
        answers += [walk.ask(route, person(role).token, person("member")) for role in ("member", "editor", "admin")]
    assert " ".join(str(answer.status) for answer in answers) == TABLE.get(name)


@pytest.mark.parametrize("name", GUARDED)
def test_no_route_that_looks_at_tokens_takes_a_bad_one(walk: Walk, name: str) -> None:
    admin = walk.people.person("admin")
    answers = [
        walk.ask(NAMES[name], token, admin) for token in (admin.expired, admin.ended, f"{admin.token[:-4]}AAAA", "x")
    ]
    assert [answer.status for answer in answers] == [401] * 4
    assert name.startswith("HEAD ") or [answer.code for answer in answers] == [
        "AUTH_TOKEN_EXPIRED_004",
        "AUTH_SESSION_ENDED_005",
        "AUTH_TOKEN_INVALID_003",
        "AUTH_TOKEN_INVALID_003",
    ]

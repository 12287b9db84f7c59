"""Who may use the operator plane: with OPS_TOKEN set every route is walked on the running system, and asks for it."""

from collections.abc import Iterator

import pytest
from kit.running import Up, one_up, request

from callboard.http.server.health import liveness_routes
from callboard.http.server.routing import Route
from callboard.ops import dead_letter_routes, operator_api

TOKEN = "a-token-for-operators"
# Without a token, and with it. A route without a row fails.
TABLE = {
    "GET /tree": (401, 200),
    "GET /pools": (401, 200),
    "PATCH /pools/{name}": (401, 200),
    "GET /config": (401, 200),
    "GET /dead-letters": (401, 200),
    "GET /dead-letters/{id}": (401, 404),
    "DELETE /dead-letters/{id}": (401, 404),
    "POST /dead-letters/{id}/replay": (401, 404),
    "POST /dead-letters/replay": (401, 400),
    "POST /dead-letters/drop": (401, 400),
    "GET /outbox/refused": (401, 200),
    "GET /metrics": (401, 200),
    "GET /mailbox": (401, 200),
    "GET /health": (200, 200),
    "GET /ready": (200, 200),
}
ROUTES: dict[str, Route[operator_api.OperatorServices]] = {
    f"{route.method} {route.path}": route
    for route in (*operator_api.ROUTES, *dead_letter_routes.ROUTES, operator_api.MAILBOX, *liveness_routes({}))
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Up]:
    with one_up({"OPS_TOKEN": TOKEN, "OPS_WRONG_TOKENS_PER_MINUTE": "1000000"}) as up:
        yield up


def ask(up: Up, name: str, token: str) -> int:
    route = ROUTES[name]
    path = route.full_path("/ops/v1").replace("{name}", "sessions")
    body = {"PATCH": {"size": 2}, "POST": {}}.get(route.method)
    return request(route.method, up.operators + path, token=token, body=body).status


def test_every_route_has_its_row_and_every_row_its_route() -> None:
    assert ROUTES.keys() == TABLE.keys()


@pytest.mark.parametrize("name", ROUTES)
def test_no_route_but_liveness_is_open_and_no_token_but_the_operators_is_good(guarded: Up, name: str) -> None:
    admin = guarded.people()[0]
    without, with_it = TABLE[name]
    for token in ("", admin, TOKEN[:-1], TOKEN + "x", TOKEN.upper()):
        assert ask(guarded, name, token) == without, token
    assert ask(guarded, name, TOKEN) == with_it


def test_a_path_that_is_not_there_does_not_tell_more_than_that(guarded: Up) -> None:
    for method, path, status in (("GET", "/ops/v1/nothing", 404), ("DELETE", "/ops/v1/tree", 405)):
        assert request(method, guarded.operators + path).status == status


def test_bytes_that_are_no_text_are_no_token(guarded: Up) -> None:
    answer = request("GET", f"{guarded.operators}/ops/v1/tree", headers={"Authorization": "Bearer \xff\xfe"})
    assert answer.status == 401


def test_a_page_whose_name_was_bent_to_our_address_reads_nothing(guarded: Up) -> None:
    for path in ("/ops/v1/mailbox", "/ops/v1/config", "/metrics", "/health", "/nothing"):
        for host in ("evil.example", "evil.example:9000", "127.0.0.1.evil.example"):
            answer = request("GET", guarded.operators + path, token=TOKEN, headers={"Host": host})
            assert (answer.status, answer.code) == (421, "REQUEST_HOST_018"), (path, host)
        assert request("GET", guarded.operators + path, token=TOKEN, headers={"Host": "localhost:1"}).status != 421
    assert request("GET", guarded.api + "/flags", headers={"Host": "evil.example"}).status == 200

"""Every role against every kind of access, tokens, and rate limits."""

from typing import Any
from uuid import UUID

import pytest

from callboard.http.server.admission import Admission
from callboard.http.server.operator_access import OperatorToken
from callboard.http.server.raw_request import ServerDependencies, Settings
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route

MEMBER, OTHER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-0000000000ff"

# For each access: nobody, member, editor, admin; asking for the member's own id.
EXPECTED = {
    Access.PUBLIC: (200, 200, 200, 200),
    Access.OPTIONAL: (200, 200, 200, 200),
    Access.USER: (401, 200, 200, 200),
    Access.SELF_OR_ADMIN: (401, 200, 404, 200),
    Access.EDITOR: (401, 403, 200, 200),
    Access.ADMIN: (401, 403, 403, 200),
    Access.KEY: (401, 401, 401, 401),  # people have tokens and no keys
}


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("access", Access)
async def test_each_access_lets_in_whom_it_should(door: Any, access: Access) -> None:
    statuses = [
        (await door.call("GET", f"/api/v1/access/{access}/{MEMBER}", headers=bearer(token)))[0]
        for token in (None, "member", "editor", "admin")
    ]
    assert tuple(statuses) == EXPECTED[access]


async def test_anothers_account_is_not_found(door: Any) -> None:
    path = f"/api/v1/access/self_or_admin/{OTHER}"
    status, body, _ = await door.call("GET", path, headers=bearer("member"))
    assert (status, body["error"]["code"]) == (404, "USERS_NOT_FOUND_002")


async def test_a_public_route_does_not_mind_an_expired_token_and_an_optional_one_does(door: Any) -> None:
    assert (await door.call("GET", f"/api/v1/access/public/{MEMBER}", headers=bearer("old")))[0] == 200
    assert (await door.call("GET", f"/api/v1/access/optional/{MEMBER}", headers=bearer("old")))[0] == 401
    _, body, _ = await door.call("GET", f"/api/v1/access/optional/{MEMBER}", headers=bearer("editor"))
    assert body["data"] == "editor@example.org"


async def test_a_401_says_how_to_authenticate(door: Any) -> None:
    path = f"/api/v1/access/user/{MEMBER}"
    _, body, missing = await door.call("GET", path)
    assert (body["error"]["code"], missing.headers["WWW-Authenticate"]) == (
        "AUTH_TOKEN_MISSING_002",
        'Bearer realm="callboard"',
    )
    _, _, expired = await door.call("GET", path, headers=bearer("old"))
    assert 'error="invalid_token"' in expired.headers["WWW-Authenticate"]


async def test_the_operators_token_guards_all_but_health(open_door: Any) -> None:
    async with open_door(Settings(base="/ops/v1", token=OperatorToken("secret")), documents=False) as door:
        path = "/ops/v1/posts"
        assert (await door.call("GET", path))[0] == 401
        assert (await door.call("GET", path, headers=bearer("secre")))[0] == 401
        assert (await door.call("GET", path, headers=bearer("secret")))[0] == 200
        assert (await door.call("GET", "/health"))[0] == 200


async def test_a_spent_limit_is_429_and_says_when(door: Any) -> None:
    door.limiter.spent.add("default")
    status, body, response = await door.call("GET", "/api/v1/posts")
    assert (status, body["error"]["code"]) == (429, "REQUEST_LIMITED_005")
    assert response.headers["Retry-After"] == "5"
    assert response.headers["RateLimit"] == '"default";r=0;t=60'
    assert response.headers["RateLimit-Policy"] == '"default";q=10;w=60'
    assert (await door.call("GET", "/health"))[0] == 200


async def test_limits_count_by_route_and_address_and_by_user(door: Any) -> None:
    _, _, response = await door.call("POST", "/api/v1/posts", json={"title": "a"}, headers=bearer("member"))
    assert door.limiter.seen == [("posts", "ip:127.0.0.1"), ("default", f"user:{MEMBER}")]
    assert response.headers["RateLimit"] == '"posts";r=50;t=30, "default";r=50;t=30'


async def test_guessing_tokens_is_counted(door: Any) -> None:
    await door.call("GET", f"/api/v1/access/user/{MEMBER}", headers=bearer("guess"))
    assert door.limiter.seen == [("default", "ip:127.0.0.1")]


async def test_a_failing_limiter_fails_no_request(door: Any) -> None:
    door.limiter.fault = ConnectionError("away")
    assert (await door.call("GET", "/api/v1/posts"))[0] == 200


async def test_a_key_is_counted_by_address_before_it_is_read_and_then_by_its_holder(door: Any) -> None:
    path = f"/api/v1/access/key/{MEMBER}"
    status, body, _ = await door.call("GET", path, headers=bearer("a-key"))
    assert (status, body["data"]) == (200, str(UUID(int=9)))
    assert door.limiter.seen == [("places", "ip:127.0.0.1"), ("programs", f"key:{UUID(int=9)}")]


async def test_guessing_keys_is_counted(door: Any) -> None:
    status, body, response = await door.call("GET", f"/api/v1/access/key/{MEMBER}", headers=bearer("guess"))
    assert (status, body["error"]["code"]) == (401, "KEYS_INVALID_001")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="callboard"'
    assert door.limiter.seen == [("places", "ip:127.0.0.1"), ("default", "ip:127.0.0.1")]


async def test_an_address_that_guesses_too_often_has_its_keys_no_longer_read(door: Any) -> None:
    door.limiter.spent.add("places")
    status, _, _ = await door.call("GET", f"/api/v1/access/key/{MEMBER}", headers=bearer("a-key"))
    assert status == 429
    assert door.limiter.seen == [("places", "ip:127.0.0.1")]


async def whoami(_call: HttpRequest[None, None, object]) -> Reply[None]:
    return Reply(None)


async def nobody(_refs: object, _key: str) -> Any:
    raise AssertionError


def test_a_route_with_keys_has_a_function_for_them_and_no_other_has() -> None:
    for access, authenticate in ((Access.KEY, None), (Access.PUBLIC, nobody)):
        route: Route[object] = Route("GET", "/x", whoami, "Who", "x", access, authenticate=authenticate)
        with pytest.raises(ValueError, match="without `authenticate`, or the reverse"):
            Admission(route, Settings(), ServerDependencies())

"""The catalogue, health, readiness, OpenAPI and its page."""

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from callboard.actors.errors import ERRORS, REQUEST_LIMITED, DegradedError
from callboard.http.api.routes import ROUTES
from callboard.http.openapi.swagger import render_committed_document
from callboard.ops.departments import OURS, declared_by

COMMITTED = Path(__file__).parents[3] / "http" / "openapi.json"
DOCUMENT = json.loads(render_committed_document(ROUTES))


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """What a reference into the components stands for."""
    if "$ref" not in value:
        return value
    _, _, kind, name = value["$ref"].split("/")
    found: dict[str, Any] = DOCUMENT["components"][kind][name]
    return found


OPERATIONS = {
    f"{method.upper()} {path}": operation
    | {"responses": {status: resolved(each) for status, each in operation["responses"].items()}}
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


async def test_the_document_is_valid_and_has_every_route(door: Any) -> None:
    _, document, _ = await door.call("GET", "/openapi.json")
    validate(document)
    operations = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert {("/api/v1/posts", "get"), ("/api/v1/posts/{content_id}", "delete"), ("/health", "get")} <= operations
    assert len(operations) == 14 + 7 + 3  # the test's own, the accesses, and health, ready, errors


async def test_the_document_says_what_a_route_takes_and_gives(door: Any) -> None:
    _, document, _ = await door.call("GET", "/openapi.json")
    create = document["paths"]["/api/v1/posts"]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Post")
    assert {"201", "400", "401", "413", "415", "429", "503"} <= create["responses"].keys()
    parameters = document["paths"]["/api/v1/posts"]["get"]["parameters"]
    assert [each.get("name") or each["$ref"].rpartition("/")[2] for each in parameters] == [
        "limit",
        "cursor",
        "mark",
        "X-Request-Timeout",
    ]


async def test_the_catalogue_lists_every_code(door: Any) -> None:
    _, body, _ = await door.call("GET", "/api/v1/errors")
    assert [entry["code"] for entry in body["data"]] == [code.name for code in ERRORS]
    assert {"code": "REQUEST_LIMITED_005", "status": 429, "meaning": REQUEST_LIMITED.meaning} in body["data"]


async def test_the_page_needs_nothing_from_elsewhere_and_no_inline_script(door: Any) -> None:
    async with door.client.get("/docs") as response:
        page = await response.text()
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) == 4
    assert not re.search(r"<script>|<style>|https?://", page)
    for asset in assets:
        async with door.client.get(asset) as response:
            assert response.status == 200
            assert len(await response.read()) > 100


async def test_ready_names_the_checks_that_fail(open_door: Any) -> None:
    async def good() -> None:
        pass

    async def away() -> None:
        raise ConnectionError("refused")

    async def stuck() -> None:
        await anyio.sleep_forever()

    async with open_door(checks={"database": good}) as door:
        status, body, _ = await door.call("GET", "/ready")
        assert (status, body["data"]) == (200, {"status": "ready", "checks": {"database": "healthy"}})
    async with open_door(checks={"database": good, "redis": away, "kafka": stuck}) as door:
        status, body, response = await door.call("GET", "/ready")
        assert (status, body["error"]["code"]) == (503, "SERVER_NOT_READY_006")
        assert {detail["field"]: detail["message"] for detail in body["error"]["details"]} == {
            "redis": "unhealthy: refused",
            "kafka": "unhealthy: no response within 1 s",
            "database": "healthy",
        }
        assert body["error"]["field"] == "redis"
        assert response.headers["Retry-After"] == "1"
        assert (await door.call("GET", "/health"))[0] == 200


async def test_ready_of_the_front_door_is_503_only_when_no_request_can_be_served(open_door: Any) -> None:
    async def good() -> None:
        pass

    async def away() -> None:
        raise ConnectionError("refused")

    async def read_only() -> None:
        raise DegradedError("read-only")

    for database, redis, wanted, said in (
        (good, good, 200, "ready"),
        (good, away, 200, "degraded"),
        (read_only, good, 200, "degraded"),
        (away, good, 503, None),
    ):
        checks = {"database": database, "redis": redis}
        async with open_door(checks=checks, essential={"database"}) as door:
            status, body, _ = await door.call("GET", "/ready")
            assert (status, body.get("data", {}).get("status")) == (wanted, said)
        async with open_door(checks=checks) as door:  # the operator plane is strict
            status, _, _ = await door.call("GET", "/ready")
            assert status == (200 if said == "ready" else 503)


# What is committed ---------------------------------------------------------------------------------------------------


def test_the_committed_document_is_that_of_the_routes() -> None:
    old, new = COMMITTED.read_text().splitlines(), render_committed_document(ROUTES).splitlines()
    changes = "\n".join(difflib.unified_diff(old, new, "http/openapi.json", "the routes", lineterm="", n=4))
    if changes:
        pytest.fail(
            f"The API has changed. If that is meant, run `make openapi` and commit it.\n{changes}", pytrace=False
        )


@pytest.mark.long
def test_the_document_of_the_real_routes_is_valid() -> None:
    validate(DOCUMENT)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_what_a_reader_needs(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["summary"][0].isupper()
    assert not operation["summary"].endswith(".")
    assert operation["tags"]
    assert operation["operationId"]
    assert operation["description"]
    assert "security" in operation
    for content in operation.get("requestBody", {}).get("content", {}).values():
        assert "example" in content or content["schema"].get("format") == "binary"
    for status, response in operation["responses"].items():
        assert "X-Request-ID" in response["headers"]
        for kind, media in response.get("content", {}).items():
            if "json" in kind and media:
                assert "example" in media or media["examples"], status
    assert {"400", "500", "503"} <= operation["responses"].keys()
    if operation["security"] not in ([], [{}, {"bearer": []}]):
        assert "401" in operation["responses"]


def examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Whatever has a schema and examples, and where."""
    for name, operation in OPERATIONS.items():
        for media in operation.get("requestBody", {}).get("content", {}).values():
            yield name, media
        for status, response in operation["responses"].items():
            for media in response.get("content", {}).values():
                yield f"{name} {status}", media
        for parameter in map(resolved, operation["parameters"]):
            yield f"{name} {parameter['name']}", parameter
    yield from DOCUMENT["components"]["headers"].items()


def test_every_example_is_what_its_schema_takes() -> None:
    seen = 0
    for where, media in examples():
        schema = {**media.get("schema", {}), "components": DOCUMENT["components"]}
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        values = [resolved(each)["value"] for each in media.get("examples", {}).values()]
        for value in [*values, *([media["example"]] if "example" in media else [])]:
            assert [error.message for error in validator.iter_errors(value)] == [], where
            seen += 1
    assert seen > 100


def test_headers_are_parameters_where_they_are_read_and_of_answers_where_they_are_given() -> None:
    for route in ROUTES:
        operation = OPERATIONS[f"{route.method} {route.full_path('/api/v1')}"]
        named = {resolved(each)["name"] for each in operation["parameters"]}
        assert ("Idempotency-Key" in named) == route.accepts_idempotency_key
        assert ("If-Match" in named) == route.is_conditional
        assert "X-Request-Timeout" in named
        responses = operation["responses"]
        assert ("ETag" in responses[str(route.status)]["headers"]) == route.has_etag
        assert ("429" in responses) != route.skips_limits_and_auth
        assert {"409", "422"} <= responses.keys() or not route.accepts_idempotency_key
        for status, response in responses.items():
            assert ("Retry-After" in response["headers"]) == (
                status in ("423", "429", "503")
                or (status == "409" and route.accepts_idempotency_key)
                or (status == str(route.status) and route.shows_progress)
            )
            assert ("WWW-Authenticate" in response["headers"]) == (status == "401")


def test_every_route_names_only_codes_of_the_catalogue_and_each_but_once() -> None:
    for route in ROUTES:
        assert len({code.name for code in route.errors}) == len(route.errors)
        assert set(route.errors) <= set(declared_by(OURS).errors)

"""The catalogue, health, readiness, OpenAPI and its page."""

import re
from typing import Any

import anyio
from openapi_spec_validator import validate

from callboard.actors.errors import CODES


async def test_the_document_is_valid_and_has_every_route(door: Any) -> None:
    _, document, _ = await door.call("GET", "/openapi.json")
    validate(document)
    operations = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert {("/api/v1/posts", "get"), ("/api/v1/posts/{content_id}", "delete"), ("/health", "get")} <= operations
    assert len(operations) == 9 + 6 + 3  # the test's own, the accesses, and health, ready, errors


async def test_the_document_says_what_a_route_takes_and_gives(door: Any) -> None:
    _, document, _ = await door.call("GET", "/openapi.json")
    create = document["paths"]["/api/v1/posts"]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Post")
    assert {"201", "400", "401", "413", "415", "429", "503"} <= create["responses"].keys()
    names = [parameter["name"] for parameter in document["paths"]["/api/v1/posts"]["get"]["parameters"]]
    assert names == ["limit", "cursor", "mark"]


async def test_the_catalogue_lists_every_code(door: Any) -> None:
    _, body, _ = await door.call("GET", "/api/v1/errors")
    assert [entry["code"] for entry in body["data"]] == list(CODES)
    assert {"code": "REQUEST_LIMITED_005", "status": 429, "meaning": CODES["REQUEST_LIMITED_005"].meaning} in body[
        "data"
    ]


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

    async with open_door(checks={"postgresql": good}) as door:
        status, body, _ = await door.call("GET", "/ready")
        assert (status, body["data"]["checks"]) == (200, {"postgresql": "ok"})
    async with open_door(checks={"postgresql": good, "redis": away, "broker": stuck}) as door:
        status, body, response = await door.call("GET", "/ready")
        assert (status, body["error"]["code"]) == (503, "SERVER_NOT_READY_006")
        assert {detail["field"] for detail in body["error"]["details"]} == {"redis", "broker"}
        assert response.headers["Retry-After"] == "1"
        assert (await door.call("GET", "/health"))[0] == 200

"""/openapi.json and /docs: we serve Swagger UI from the swagger-ui-py wheel, so it works without internet."""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec

from callboard.actors.errors import ErrorCode
from callboard.http.openapi.document import openapi
from callboard.http.server.health import Checks, catalogue_route, liveness_routes
from callboard.http.server.raw_request import Settings
from callboard.http.server.request import HttpRequest, RawReply
from callboard.http.server.routing import Access, Route
from callboard.http.server.versions import in_versions

# React sets styles on elements, hence 'unsafe-inline' for styles; for scripts there is no such need.
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HTML = "text/html; charset=utf-8"
CACHED = {"Cache-Control": "public, max-age=86400"}

ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}

START_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
START_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Callboard</title>
<link rel="alternate" type="application/atom+xml" title="Articles" href="/feed.atom">
</head>
<body>
<h1>Callboard</h1>
<p>Accounts and published content, as an HTTP API.</p>
<ul>
<li><a href="/docs">The API's documentation</a></li>
<li><a href="/openapi.json">The same as OpenAPI 3.1</a></li>
<li><a href="/asyncapi.json">The events as AsyncAPI 3</a></li>
<li><a href="/api/v1/content">Published articles</a></li>
<li><a href="/feed.atom">The same as a feed</a></li>
<li><a href="/api/v1/errors">Error codes</a></li>
<li><a href="/health">Health</a></li>
</ul>
</body>
</html>
"""

PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Callboard API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

START = b"""SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  persistAuthorization: false,
});
"""


def swagger_folder() -> Path:
    """Return the folder of Swagger UI's files in the wheel. Raises FileNotFoundError without the wheel."""
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package swagger-ui-py, which provides the files of /docs, is not installed")
    return Path(spec.submodule_search_locations[0]) / "static"


def common_routes(
    checks: Checks, essential: Container[str] | None = None, errors: Sequence[ErrorCode] = ()
) -> tuple[Route[object], ...]:
    """Return the routes that every server has beside those of its API; its document lists them."""
    return (*liveness_routes(checks, essential), catalogue_route(errors))


def render_committed_document(routes: Sequence[Route[Any]], base: str = Settings.base) -> str:
    """Return the document as it is committed, http/openapi.json, for these routes and the common ones."""
    table = in_versions((*routes, *common_routes({})), base)
    return msgspec.json.format(openapi(table, base), indent=2).decode() + "\n"


def document_routes(routes: Sequence[Route[Any]], base: str) -> tuple[Route[object], ...]:
    """Return the routes of /openapi.json for this table and of /docs."""
    document = openapi(routes, base)
    folder = swagger_folder()

    async def moved(request: HttpRequest[None, None, object]) -> RawReply:  # noqa: ARG001 - a handler's face
        return RawReply(b"", "text/plain", headers={"Location": "/docs"})

    def asset(name: str, content_type: str) -> Route[object]:
        held: list[RawReply] = []

        async def read(request: HttpRequest[None, None, object]) -> RawReply:  # noqa: ARG001 - a handler's face
            # Up to 1.5 MB, seldom requested: the first request loads it, in a thread, and all clients share it.
            if not held:
                body = await anyio.to_thread.run_sync((folder / name).read_bytes)
                held.append(_shared(body, content_type, CACHED))
            return held[0]

        return page(f"/docs/{name}", read)

    pages = {
        "/": _shared(START_PAGE, HTML, CACHED, START_POLICY),
        "/docs": RawReply(PAGE, HTML, policy=DOCS_POLICY),
        "/docs/start.js": _shared(START, "text/javascript; charset=utf-8", CACHED),
        "/openapi.json": _shared(document, "application/json", {"Cache-Control": "public, max-age=60"}),
    }
    return (
        *(page(path, _always(answer)) for path, answer in pages.items()),
        replace(page("/docs/", moved), status=HTTPStatus.PERMANENT_REDIRECT.value),
        *(asset(name, content_type) for name, content_type in ASSETS.items()),
    )


def _shared(body: bytes, content_type: str, headers: Mapping[str, str], policy: str | None = None) -> RawReply:
    """Return a response that all clients share; its ETag is a digest of its bytes."""
    tag = hashlib.sha256(body).hexdigest()[:16]
    return RawReply(body, content_type, policy=policy, headers=headers, etag=tag, is_shared=True)


def _always(answer: RawReply) -> Any:
    async def read(request: HttpRequest[None, None, object]) -> RawReply:  # noqa: ARG001 - a handler's face
        return answer

    return read


def page(path: str, handler: Any) -> Route[object]:
    """Return the route of a public page outside the base path, open during maintenance and rate limited."""
    return Route(
        *("GET", path, handler, f"Serve {path}", "documents", Access.PUBLIC),
        absolute=True,
        open_in_maintenance=True,
        has_etag=True,
    )

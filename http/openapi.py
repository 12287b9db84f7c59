"""OpenAPI 3.1, generated from the route table and the Structs it names: nothing about a route is said twice."""

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.errors import (
    AUTH_FORBIDDEN,
    AUTH_SESSION_ENDED,
    AUTH_TOKEN_EXPIRED,
    AUTH_TOKEN_INVALID,
    AUTH_TOKEN_MISSING,
    REQUEST_INVALID,
    REQUEST_LIMITED,
    REQUEST_MALFORMED,
    REQUEST_SLOW,
    REQUEST_TOO_LARGE,
    REQUEST_UNSUPPORTED,
    SERVER_BUG,
    SERVER_DRAINING,
    SERVER_OVERLOADED,
    SERVER_TIMEOUT,
    SERVER_UNAVAILABLE,
    Code,
)
from callboard.http.answers import PageInfo
from callboard.http.errors import PROBLEM_JSON, ErrorEnvelope, Failure, ProblemDetails, status_of
from callboard.http.routing import Access, Route, Shape, shape_of

REFS = "#/components/schemas/{name}"
NONE = type(None)

EVERYWHERE = (REQUEST_INVALID, SERVER_BUG, SERVER_DRAINING, SERVER_OVERLOADED, SERVER_TIMEOUT, SERVER_UNAVAILABLE)
OF_BODIES = (REQUEST_MALFORMED, REQUEST_SLOW, REQUEST_TOO_LARGE, REQUEST_UNSUPPORTED)
OF_TOKENS = (AUTH_TOKEN_INVALID, AUTH_TOKEN_EXPIRED, AUTH_SESSION_ENDED)

DESCRIPTION = (
    "Send `Authorization: Bearer` with the access token of a login. Errors come in one envelope, with a stable code; "
    "`GET {base}/errors` lists all codes, and `Accept: application/problem+json` gives RFC 9457 instead."
)


def codes_of(route: Route[Any], shape: Shape) -> tuple[Code, ...]:
    """Every code a route can give, each once: its own, and those that follow from what it declares."""
    codes = [*route.errors, *EVERYWHERE]
    if shape.body is not NONE:
        codes += OF_BODIES
    if not route.exempt:
        codes.append(REQUEST_LIMITED)
    if route.access is not Access.PUBLIC:
        codes += OF_TOKENS
    if route.access not in (Access.PUBLIC, Access.OPTIONAL):
        codes.append(AUTH_TOKEN_MISSING)
    if route.access in (Access.EDITOR, Access.ADMIN):
        codes.append(AUTH_FORBIDDEN)
    if route.parameters:
        codes.append(route.not_found)
    return tuple({code.name: code for code in codes}.values())


def openapi(routes: Sequence[Route[Any]], base: str) -> bytes:
    """The document of a route table, as JSON."""
    shapes = [shape_of(route) for route in routes]
    kinds = {kind for shape in shapes for kind in (shape.body, shape.query) if kind not in (NONE, bytes)}
    answers = [shape.answer for shape in shapes if shape.answer is not NONE]
    types: list[Any] = [*kinds, *answers, ErrorEnvelope, ProblemDetails, PageInfo]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFS)
    by_type = {repr(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    used: dict[str, Code] = {}
    for route, shape in zip(routes, shapes, strict=True):
        used |= {code.name: code for code in codes_of(route, shape)}
        path = route.path if route.absolute else base + route.path
        name = f"{route.tag}_{route.method.lower()}_{'_'.join(part.strip('{}') for part in path[1:].split('/'))}"
        operation = operation_of(route, shape, by_type, components)
        paths.setdefault(path, {})[route.method.lower()] = {"operationId": name, **operation}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Callboard", "version": "1", "description": DESCRIPTION.format(base=base)},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": components,
            "examples": {name: {"value": example_of(code)} for name, code in sorted(used.items())},
            "headers": {
                "X-Request-ID": {
                    "description": "The client's own, when it sent a harmless one, else made here.",
                    "schema": {"type": "string"},
                }
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }
    return msgspec.json.encode(document)


def operation_of(
    route: Route[Any], shape: Shape, by_type: dict[str, dict[str, Any]], components: dict[str, Any]
) -> dict[str, Any]:
    """One operation: what it takes, what it gives, and who may."""
    bearer: dict[str, list[str]] = {"bearer": []}
    security = {Access.PUBLIC: [], Access.OPTIONAL: [{}, bearer]}.get(route.access, [bearer])
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": f"Access: {route.access.value}.",
        "tags": [route.tag],
        "security": security,
        "parameters": parameters_of(route, shape, by_type, components),
        "responses": responses_of(route, shape, by_type),
    }
    if shape.body is bytes:
        content: dict[str, Any] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": content}
    elif shape.body is not NONE:
        content = {"application/json": {"schema": by_type[repr(shape.body)]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def parameters_of(
    route: Route[Any], shape: Shape, by_type: dict[str, dict[str, Any]], components: dict[str, Any]
) -> list[dict[str, Any]]:
    """The parameters of the path, then those of the query."""
    parameters: list[dict[str, Any]] = []
    for name, kind in route.parameters.items():
        schema = {"type": "string", "format": "uuid"} if kind is UUID else {"type": "string"}
        parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
    if shape.query is not NONE:
        query = components[by_type[repr(shape.query)]["$ref"].rpartition("/")[2]]
        for name, schema in query["properties"].items():
            required = name in query["required"]
            parameters.append({"name": name, "in": "query", "required": required, "schema": schema})
    return parameters


def responses_of(route: Route[Any], shape: Shape, by_type: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The route's own status, and each status its codes have, with the codes as examples."""
    headers = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    success: dict[str, Any] = {"description": HTTPStatus(route.status).phrase, "headers": headers}
    if shape.raw:
        success["content"] = {"*/*": {}}
    elif route.status != HTTPStatus.NO_CONTENT:
        success["content"] = {"application/json": {"schema": envelope_of(shape, by_type)}}
    responses = {str(route.status): success}
    grouped: dict[int, list[Code]] = {}
    for code in codes_of(route, shape):
        grouped.setdefault(status_of(code), []).append(code)
    for status, codes in sorted(grouped.items()):
        responses[str(status)] = {
            "description": "\n".join(f"- `{code.name}`: {code.meaning}" for code in codes),
            "headers": headers,
            "content": {
                "application/json": {
                    "schema": by_type[repr(ErrorEnvelope)],
                    "examples": {code.name: {"$ref": f"#/components/examples/{code.name}"} for code in codes},
                },
                PROBLEM_JSON: {"schema": by_type[repr(ProblemDetails)]},
            },
        }
    return responses


def envelope_of(shape: Shape, by_type: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The schema of the envelope around one answer."""
    data: dict[str, Any] = {"type": "null"} if shape.answer is NONE else by_type[repr(shape.answer)]
    properties: dict[str, Any] = {"status": {"const": "success"}, "data": data}
    if shape.listed:
        properties["data"] = {"type": "array", "items": data}
        properties["page"] = by_type[repr(PageInfo)]
    else:
        properties["message"] = {"type": "string"}
    required = ["status", "data", "page"] if shape.listed else ["status", "data"]
    return {"type": "object", "properties": properties, "required": required}


def example_of(code: Code) -> Any:
    """An error with this code, as the envelope has it."""
    failure = Failure(
        code=code.name,
        message=code.meaning,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    )
    return msgspec.to_builtins(ErrorEnvelope("error", failure))

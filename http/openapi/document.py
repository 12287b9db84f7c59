"""OpenAPI 3.1, generated from the route table and its Structs: nothing about a route is declared twice."""

import hashlib
import inspect
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec

from callboard.actors.errors import ErrorCode
from callboard.http.openapi.examples import example_for
from callboard.http.openapi.responses import HEADERS, by_status, codes_of, headers_given
from callboard.http.server.errors import ErrorEnvelope, Failure, ProblemDetails, status_of
from callboard.http.server.headers import PROBLEM_JSON
from callboard.http.server.preconditions import Validators
from callboard.http.server.response import PHRASES
from callboard.http.server.response_builder import PageInfo
from callboard.http.server.routing import Access, HandlerSignature, RequestHeader, Route, check_tags, shape_of
from callboard.http.server.streamed_body import StreamedBody

REFS = "#/components/schemas/{name}"
REFERENCE = re.compile(r'"#/components/([^"]+)"')
NONE = type(None)
BARE = (NONE, bytes, StreamedBody)  # bodies and queries without a schema of their own
BINARY = {"schema": {"type": "string", "format": "binary"}}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"

DESCRIPTION = (
    "Send `Authorization: Bearer` with the access token of a login. Errors come in one envelope, with a stable code; "
    "`GET {base}/errors` lists all codes, and `Accept: application/problem+json` gives RFC 9457 instead."
)


def _parameter(name: str, description: str, example: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", **schema},
        "example": example,
    }


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


TEXT_PATTERN = r"^[^\u0000]*$"
TIME_PATTERN = r"^(?!000[01]|9999)[0-9]{4}-"
TAGS_PATTERN = r'^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$'
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "key": {"type": "http", "scheme": "bearer", "description": "A producer key, which an admin creates."},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "If-Modified-Since": _parameter(
        "If-Modified-Since",
        "The Last-Modified of an earlier response. If-None-Match goes before it; what is no time is ignored.",
        "Thu, 01 Jan 2026 00:00:00 GMT",
    ),
    "If-Unmodified-Since": _parameter(
        "If-Unmodified-Since",
        "The Last-Modified of an earlier response, which must hold still. If-Match goes before it.",
        "Thu, 01 Jan 2026 00:00:00 GMT",
    ),
    "X-Request-Timeout": _parameter(
        "X-Request-Timeout",
        "The time limit of the call, in seconds.",
        "2.5",
        pattern=r"^(?!0+(\.0+)?$)[0-9]{1,6}(\.[0-9]{1,6})?$",
    ),
    "Idempotency-Key": _parameter(
        "Idempotency-Key",
        "A key of your choice, new for each resource: a repeated request with the same key gets the first response.",
        "8e03978e-40d5-43dd-bc93-6894a57f9324",
        pattern=r"^[!-~]([ -~]{0,253}[!-~])?$",
    ),
    "If-Match": _parameter(
        "If-Match", "A list of ETags, or `*`: the resource must have one of them.", '"3"', pattern=TAGS_PATTERN
    ),
    "If-None-Match": _parameter(
        "If-None-Match", "A list of ETags, or `*`: the resource must have none of them.", '"3"', pattern=TAGS_PATTERN
    ),
}


@dataclass(frozen=True)
class Schemas:
    """The schemas of a document, by type and by name, and the error responses that its routes share."""

    by_type: dict[str, dict[str, Any]]
    components: dict[str, Any]
    responses: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type."""
        return self.by_type[repr(kind)]

    def json(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return JSON content of a schema, with an example."""
        return {"application/json": self.media(schema)}

    def media(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema with an example."""
        return {"schema": schema, "example": example_for(schema, self.components)}


def openapi(routes: Sequence[Route[Any]], base: str) -> bytes:
    """The document of a route table, as JSON. Raises TypeError like `check_tags`."""
    check_tags(routes)
    shapes = [shape_of(route) for route in routes]
    kinds = {kind: None for shape in shapes for kind in (shape.body, shape.query) if kind not in BARE}
    kinds |= dict.fromkeys(kind for route in routes for kind in route.consumes.values() if kind is not bytes)
    answers = [shape.answer for shape in shapes if shape.answer is not NONE]
    types: list[Any] = [*kinds, *answers, ErrorEnvelope, ProblemDetails, PageInfo]
    found, components = msgspec.json.schema_components(types, ref_template=REFS)
    for component in components.values():
        if "description" in component:  # a docstring, indented as in the source before Python 3.13
            component["description"] = inspect.cleandoc(component["description"])
    for kind, schema in zip(kinds, found, strict=False):  # types of requests come first
        component = components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        tighten(component)
        component.update(getattr(kind, "SCHEMA", {}))
    schemas = Schemas({repr(kind): schema for kind, schema in zip(types, found, strict=True)}, components)
    paths: dict[str, dict[str, Any]] = {}
    used: dict[str, ErrorCode] = {}
    for route, shape in zip(routes, shapes, strict=True):
        used |= {code.name: code for code in codes_of(route, shape)}
        path = route.full_path(base)
        words = re.findall(r"\w+", path)  # client generators make a function name of it
        name = "_".join((route.tag, route.method.lower(), *words))
        operation = operation_of(route, shape, schemas)
        paths.setdefault(path, {})[route.method.lower()] = {"operationId": name, **operation}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Callboard", "version": "1", "description": DESCRIPTION.format(base=base)},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": components,
            "examples": {name: {"value": failure_of(code)} for name, code in sorted(used.items())}
            | {problem_name(code): {"value": problem_example(code)} for _, code in sorted(used.items())},
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "responses": dict(sorted(schemas.responses.items())),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }
    document["components"] = used_of(document)
    return msgspec.json.encode(document)


def tighten(schema: Any) -> None:
    """Add to the schemas of requests the rules that hold for every text and time."""
    for each in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(each, dict | list):
            tighten(each)
    if isinstance(schema, dict) and schema.get("type") == "string" and "enum" not in schema:
        if "pattern" in schema:  # Python's end of a text is not ECMA 262's
            schema["pattern"] = schema["pattern"].replace("\\Z", "$")
        rule = {"date-time": TIME_PATTERN, None: TEXT_PATTERN}.get(schema.get("format"))
        if rule is not None and "pattern" not in schema:
            schema["pattern"] = rule
        elif rule is not None:
            schema["allOf"] = [{"pattern": rule}]


def used_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the components that are referred to; operations write the types of queries and paths out."""
    components = document["components"]
    found: set[str] = set()
    left = REFERENCE.findall(msgspec.json.encode(document["paths"]).decode())
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            kind, _, each = name.partition("/")
            left += REFERENCE.findall(msgspec.json.encode(components[kind][each]).decode())
    kept = {
        kind: {name: each for name, each in named.items() if kind == "securitySchemes" or f"{kind}/{name}" in found}
        for kind, named in components.items()
    }
    return {kind: named for kind, named in kept.items() if named}


def operation_of(route: Route[Any], shape: HandlerSignature, schemas: Schemas) -> dict[str, Any]:
    """Return one operation: its input, its responses and its security."""
    bearer: dict[str, list[str]] = {"bearer": []}
    security = {Access.PUBLIC: [], Access.OPTIONAL: [{}, bearer], Access.KEY: [{"key": []}]}.get(route.access, [bearer])
    said = inspect.getdoc(route.handler)
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": f"{said}\n\nAccess: {route.access.value}." if said else f"Access: {route.access.value}.",
        "tags": [route.tag],
        "security": security,
        "parameters": parameters_of(route, shape, schemas),
        "responses": responses_of(route, shape, schemas),
    }
    if route.deprecated is not None:
        operation["deprecated"] = True
    if shape.body in (bytes, StreamedBody):
        content: dict[str, Any] = {
            name: BINARY if kind is bytes else schemas.media(schemas.of(kind))
            for name, kind in (route.consumes or {"*/*": bytes}).items()
        }
        operation["requestBody"] = {"required": shape.body is bytes, "content": content}
    elif shape.body is not NONE:
        operation["requestBody"] = {"required": True, "content": schemas.json(schemas.of(shape.body))}
    return operation


def parameters_of(route: Route[Any], shape: HandlerSignature, schemas: Schemas) -> list[dict[str, Any]]:
    """Return the parameters of the path and the query, and the headers that the route reads."""
    parameters: list[dict[str, Any]] = []
    for name, kind in route.parameters.items():
        schema = {"type": "string", "format": "uuid"} if kind is UUID else {"type": "string"}
        example = example_for(schema, schemas.components, name)
        parameters.append({"name": name, "in": "path", "required": True, "schema": schema, "example": example})
    if shape.query is not NONE:
        query = schemas.components[schemas.of(shape.query)["$ref"].rpartition("/")[2]]
        for name, schema in query["properties"].items():
            required = name in query["required"]
            parameters.append({"name": name, "in": "query", "required": required, "schema": schema})
    for name, said in route.headers.items():
        header = said if isinstance(said, RequestHeader) else RequestHeader(said)
        needed = {"required": True} if header.is_required else {}
        parameters.append(
            {"name": name, "in": "header", "description": header.description, **needed, "schema": header.schema}
        )
    headers = ["Idempotency-Key", "X-Request-Timeout"] if route.accepts_idempotency_key else ["X-Request-Timeout"]
    if route.is_conditional:
        if route.match_missing is None:
            headers.append("If-Match")
        else:
            parameters.append({**PARAMETERS["If-Match"], "required": True})
        headers.append("If-None-Match")
    if route.has_date:
        headers.append("If-Modified-Since")
    if route.has_date or (route.current and typing.get_type_hints(route.current)["return"] is Validators):
        headers.append("If-Unmodified-Since")
    return parameters + [{"$ref": f"#/components/parameters/{name}"} for name in headers]


def responses_of(route: Route[Any], shape: HandlerSignature, schemas: Schemas) -> dict[str, Any]:
    """Return the response of the route's own status and of each status of its codes; error responses are added to
    `schemas`, under their names.
    """
    success: dict[str, Any] = {
        "description": PHRASES[route.status],
        "headers": headers_of(route, route.status) | {name: _header(said) for name, said in route.gives.items()},
    }
    if route.method == "HEAD" or route.status == HTTPStatus.NO_CONTENT:
        pass  # no content
    elif shape.raw:
        success["content"] = {route.content_type: {}}
    else:
        success["content"] = schemas.json(envelope_of(shape, schemas))
    responses = {str(route.status): success}
    if route.serves_ranges:
        part = {**success["headers"], "Content-Range": {"$ref": "#/components/headers/Content-Range"}}
        responses[str(HTTPStatus.PARTIAL_CONTENT.value)] = success | {"description": "Partial Content", "headers": part}
    if route.has_etag and not route.makes_changes:
        headers = headers_of(route, HTTPStatus.NOT_MODIFIED)
        responses[str(HTTPStatus.NOT_MODIFIED.value)] = {"description": "Not Modified", "headers": headers}
    for status, codes in by_status(codes_of(route, shape)).items():
        name = response_name(route, status, codes)
        schemas.responses.setdefault(name, error_of(route, status, codes, schemas))
        responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return responses


def response_name(route: Route[Any], status: int, codes: Sequence[ErrorCode]) -> str:
    """Return the name of an error response that several routes share: its status and a digest of its content."""
    bodiless = ("HEAD",) if route.method == "HEAD" else ()
    inside = " ".join(
        (*sorted(code.name for code in codes), *headers_given(route, status), *route.constant_headers, *bodiless)
    )
    return f"{status}.{hashlib.sha256(inside.encode()).hexdigest()[:8]}"


def error_of(route: Route[Any], status: int, codes: Sequence[ErrorCode], schemas: Schemas) -> dict[str, Any]:
    """An error response, with its codes as examples."""
    named = {code.name: {"$ref": f"#/components/examples/{code.name}"} for code in codes}
    problems = {code.name: {"$ref": f"#/components/examples/{problem_name(code)}"} for code in codes}
    response: dict[str, Any] = {
        "description": "\n".join(f"- `{code.name}`: {code.meaning}" for code in codes),
        "headers": headers_of(route, status),
    }
    if route.method != "HEAD":
        response["content"] = {
            "application/json": {"schema": schemas.of(ErrorEnvelope), "examples": named},
            PROBLEM_JSON: {"schema": schemas.of(ProblemDetails), "examples": problems},
        }
    return response


def headers_of(route: Route[Any], status: int) -> dict[str, Any]:
    """Return the headers of a response: references to shared ones, and those of every response of the route."""
    constant = {name: {"schema": {"type": "string", "const": value}} for name, value in route.constant_headers.items()}
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers_given(route, status)} | constant


def envelope_of(shape: HandlerSignature, schemas: Schemas) -> dict[str, Any]:
    """Return the schema of the envelope around a response's data."""
    data: dict[str, Any] = {"type": "null"} if shape.answer is NONE else schemas.of(shape.answer)
    properties: dict[str, Any] = {"status": {"const": "success"}, "data": data}
    if shape.listed:
        properties["data"] = {"type": "array", "items": data}
        properties["page"] = schemas.of(PageInfo)
    else:
        properties["message"] = {"type": "string"}
    required = ["status", "data", "page"] if shape.listed else ["status", "data"]
    return {"type": "object", "properties": properties, "required": required}


def failure_of(code: ErrorCode) -> Any:
    """Return an error with this code in our envelope."""
    failure = Failure(
        code=code.name, message=code.meaning, timestamp=datetime(2026, 1, 1, tzinfo=UTC), trace_id=TRACE_ID
    )
    return msgspec.to_builtins(ErrorEnvelope("error", failure))


def problem_name(code: ErrorCode) -> str:
    """Return the name of the example in RFC 9457's form."""
    return f"{code.name}.problem"


def problem_example(code: ErrorCode) -> Any:
    """Return an error with this code in the form of RFC 9457."""
    return msgspec.to_builtins(
        ProblemDetails(
            type=f"/api/v1/errors#{code.name}",
            title=code.meaning,
            status=status_of(code),
            detail=code.meaning,
            code=code.name,
            timestamp=datetime(2026, 1, 1, tzinfo=UTC),
            trace_id=TRACE_ID,
        )
    )

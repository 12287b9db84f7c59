"""Our rules for the document, beyond what a validator asks for: what a reader and a generator of clients need."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from kit.contract import ANYWAY
from openapi_spec_validator import OpenAPIV31SpecValidator

from callboard.actors.errors import SERVER_DRAINING
from callboard.http.api.routes import ROUTES
from callboard.http.openapi.responses import codes_of
from callboard.http.openapi.swagger import common_routes, render_committed_document
from callboard.http.server.errors import status_of
from callboard.http.server.routing import Access, shape_of
from callboard.ops import operator_api
from callboard.ops.departments import OURS, declared_by

DOCUMENT = json.loads(render_committed_document(ROUTES))
TABLE = {f"{route.method} {route.full_path('/api/v1')}": route for route in (*ROUTES, *common_routes({}))}
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
# Given before any route is known.
# The operator plane has its own table of routes, and refuses a foreign Host before it looks at any.
ROUTELESS = {"ROUTE_METHOD_002", "ROUTE_NOT_FOUND_001", "REQUEST_HOST_018"} | (
    {code.name for code in ANYWAY} - {SERVER_DRAINING.name}
)


def at(reference: str) -> dict[str, Any]:
    """What a reference stands for."""
    _, _, kind, name = reference.split("/")
    found: dict[str, Any] = DOCUMENT["components"][kind][name]
    return found


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    return at(value["$ref"]) if "$ref" in value else value


def inside(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a document, and where."""
    yield path, value
    for name, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from inside(each, f"{path}/{name}")


def codes_in(operation: dict[str, Any], form: str) -> dict[str, int]:
    """The error codes that an operation lists in its examples, and the status each stands under."""
    listed = {}
    for status, response in operation["responses"].items():
        whole = resolved(response)
        if "content" not in whole:  # to HEAD: the description lists them
            listed |= dict.fromkeys(re.findall(r"`([A-Z]+(?:_[A-Z]+)+_[0-9]{3})`", whole["description"]), int(status))
        media = whole.get("content", {}).get(form, {})
        for example in media.get("examples", {}).values():
            value = at(example["$ref"])["value"]
            listed[(value.get("error") or value)["code"]] = int(status)
    return listed


@pytest.mark.long
def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_ids_of_operations_are_each_once_and_names_for_a_function() -> None:
    names = Counter(operation["operationId"] for operation in OPERATIONS.values())
    assert set(names.values()) == {1}
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


def test_every_tag_is_declared_and_used() -> None:
    declared = [tag["name"] for tag in DOCUMENT["tags"]]
    assert sorted(declared) == sorted({tag for operation in OPERATIONS.values() for tag in operation["tags"]})
    assert all(len(operation["tags"]) == 1 for operation in OPERATIONS.values())


@pytest.mark.parametrize("name", OPERATIONS)
def test_security_is_what_the_route_asks_for(name: str) -> None:
    special: dict[Access, list[Any]] = {
        Access.PUBLIC: [],
        Access.OPTIONAL: [{}, {"bearer": []}],
        Access.KEY: [{"key": []}],
    }
    expected = special.get(TABLE[name].access, [{"bearer": []}])
    assert OPERATIONS[name]["security"] == expected


@pytest.mark.parametrize("form", ["application/json", "application/problem+json"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_code_that_a_route_can_give_is_listed_under_its_status(name: str, form: str) -> None:
    route = TABLE[name]
    expected = {code.name: status_of(code) for code in codes_of(route, shape_of(route))}
    assert codes_in(OPERATIONS[name], form) == expected
    for status, response in OPERATIONS[name]["responses"].items():
        said = re.findall(r"`(\w+)`: ", resolved(response)["description"])
        assert sorted(said) == sorted(code for code, its in expected.items() if its == int(status))


def test_every_code_of_the_catalogue_is_given_by_some_route() -> None:
    """One that none gives is one that was forgotten: in its route, or in the catalogue."""
    given = {code for operation in OPERATIONS.values() for code in codes_in(operation, "application/json")}
    operators = {code.name for route in operator_api.ROUTES for code in codes_of(route, shape_of(route))}
    catalogue = {code.name for code in declared_by(OURS).errors}
    jobs = {name for name in catalogue if name.startswith(("JOBS_", "DEAD_LETTERS_"))}  # by operators' commands
    assert catalogue - given - operators - jobs == ROUTELESS


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    used = {value for _, value in inside(DOCUMENT) if isinstance(value, str) and value.startswith("#/")}
    there = {f"#/components/{kind}/{name}" for kind, named in DOCUMENT["components"].items() for name in named}
    assert used == {name for name in there if "/securitySchemes/" not in name}
    named = {name for operation in OPERATIONS.values() for each in operation["security"] for name in each}
    assert named == DOCUMENT["components"]["securitySchemes"].keys()


def test_names_say_nothing_of_our_modules() -> None:
    names = [name for kind in ("schemas", "parameters", "headers") for name in DOCUMENT["components"][kind]]
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Za-z0-9-]*", name)] == []


def test_every_parameter_of_a_path_is_there_and_required() -> None:
    for name, operation in OPERATIONS.items():
        given = {each["name"]: each for each in map(resolved, operation["parameters"]) if each["in"] == "path"}
        assert set(re.findall(r"\{(\w+)\}", name)) == given.keys()
        assert all(each["required"] and each["example"] for each in given.values())


def test_every_field_that_is_required_is_declared() -> None:
    for where, value in inside(DOCUMENT):
        if isinstance(value, dict) and isinstance(value.get("required"), list):
            assert set(value["required"]) <= value["properties"].keys(), where


def test_every_moment_says_that_it_is_one() -> None:
    """Names of times end like this; a client's generator makes times of them."""
    for where, value in inside(DOCUMENT["components"]["schemas"]):
        if re.search(r"/properties/(\w+_at|timestamp|hour)$", where):
            kinds = [each for each in value.get("anyOf", [value]) if each.get("type") != "null"]
            assert [each.get("format") for each in kinds] == ["date-time"], where


def with_examples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Whatever has a schema and an example, and where."""
    for where, value in inside(DOCUMENT):
        if isinstance(value, dict) and isinstance(value.get("schema"), dict) and {"example", "examples"} & value.keys():
            yield where, value


@pytest.mark.long
def test_every_example_is_what_its_schema_takes_with_its_formats() -> None:
    seen = 0
    for where, media in with_examples():
        schema = {**media["schema"], "components": DOCUMENT["components"]}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        values = [resolved(each)["value"] for each in media.get("examples", {}).values()]
        for value in [*values, *([media["example"]] if "example" in media else [])]:
            assert [error.message for error in validator.iter_errors(value)] == [], where
            seen += 1
    assert seen > 100


def test_every_field_of_a_body_that_is_text_has_a_bound() -> None:
    """A text without one is bounded by the body alone: that has to be meant."""
    meant: set[str] = set()
    for name, operation in OPERATIONS.items():
        for media in operation.get("requestBody", {}).get("content", {}).values():
            body = resolved(media["schema"])
            for field, schema in resolved(body.get("items", body)).get("properties", {}).items():
                for each in schema.get("anyOf", [schema]):
                    is_open = each.get("type") == "string" and not {"maxLength", "enum", "format"} & each.keys()
                    assert not is_open or f"{name} {field}" in meant, f"{name} {field}"


def strings_of(schema: Any) -> Iterator[dict[str, Any]]:
    """Each schema of a text in what is read."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and not schema.keys() & {"enum", "const"}:
            yield schema
        for each in schema.values():
            yield from strings_of(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from strings_of(each)


def read_schemas() -> Iterator[Any]:
    for operation in OPERATIONS.values():
        yield from (each["schema"] for each in map(resolved, operation["parameters"]) if each["in"] == "query")
        for media in operation.get("requestBody", {}).get("content", {}).values():
            schema = media["schema"]
            yield at(schema["$ref"]) if "$ref" in schema else schema


def test_what_the_door_asks_of_every_text_and_time_is_said_of_each() -> None:
    """NUL is refused everywhere, and a time at the ends of time."""
    seen = 0
    for schema in strings_of(list(read_schemas())):
        refused = {"date-time": ("0001-01-02T00:00:00Z", "9999-01-01T00:00:00Z"), None: ("\0", "a\0b")}
        validator = jsonschema_rs.Draft202012Validator(schema)
        for value in refused.get(schema.get("format"), ()):
            assert not validator.is_valid(value), schema
            seen += 1
    assert seen > 20


def test_a_body_whose_fields_depend_on_one_another_says_so() -> None:
    for name, good, bad in (
        ("FlagBody", {"is_on": True}, {"is_on": None}),
        ("UserChange", {"role": "editor"}, {}),
    ):
        schema = {**at(f"#/components/schemas/{name}"), "components": DOCUMENT["components"]}
        validator = jsonschema_rs.Draft202012Validator(schema)
        assert validator.is_valid(good)
        assert not validator.is_valid(bad)

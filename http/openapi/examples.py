"""Examples for the documents, made from the schemas: a field's own example if it declares one, else a value that is
valid.
"""

from typing import Any

TEXT = "text"
BY_FORMAT = {
    "uuid": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "date-time": "2026-01-01T12:00:00Z",
    "date": "2026-01-01",
    "uri": "https://example.org/",
}
# Examples for fields without a format, by field name.
BY_NAME = {
    "body_html": "<p>On the engine.</p>",
    "device": "Mozilla/5.0",
    "email": "ada@example.org",
    "full_name": "Ada Lovelace",
    "ip": "203.0.113.7",
    "message": "Done.",
    "next_cursor": "WyIyMDI2LTAxLTAxIl0",
}
MAX_DEPTH = 8


def example_for(schema: dict[str, Any], components: dict[str, Any], name: str = "", depth: int = 0) -> Any:
    """Return a valid value of the schema; `name` is its field. The same schema always gives the same example."""
    while "$ref" in schema:
        schema, depth = components[schema["$ref"].rpartition("/")[2]], depth + 1
    declared = [schema.get("const"), schema.get("default"), *schema.get("examples", ()), *schema.get("enum", ())]
    given = next((each for each in declared if each is not None), None)
    if given is not None:
        return given
    if schema.get("examples"):
        return None  # the field declares that its example is empty
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        chosen = next((each for each in choices if each.get("type") != "null"), choices[0])
        return example_for(chosen, components, name, depth)
    deep = depth > MAX_DEPTH  # a recursive type
    match schema.get("type"):
        case "object":
            fields = {} if deep else schema.get("properties", {})
            return {field: example_for(each, components, field, depth + 1) for field, each in fields.items()}
        case "array":
            items = None if deep else schema.get("items")
            return [example_for(items, components, name, depth + 1)] if items else []
        case _:
            return scalar(schema, name)


def scalar(schema: dict[str, Any], name: str) -> Any:
    """Return a text, a number or a boolean within its bounds."""
    kind = schema.get("type")
    if kind == "string":
        text = BY_FORMAT.get(schema.get("format", "")) or BY_NAME.get(name) or TEXT
        return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return True if kind == "boolean" else None

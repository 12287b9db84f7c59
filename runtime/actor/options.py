"""Structs of options: each field is of its type from the beginning, though no type checker has run."""

from typing import Any

import msgspec

from callboard.runtime.actor.errors import ChildSpecError


def check_types(options: msgspec.Struct) -> None:
    """Convert each field to its type, so that `Mailbox(8, "reject")` has an Overflow. Raises ChildSpecError."""
    for field in msgspec.structs.fields(options):
        value = getattr(options, field.name)
        try:
            converted = msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            raise ChildSpecError(f"{type(options).__name__}({field.name}={value!r}): {error}") from None
        if converted is not value:
            msgspec.structs.force_setattr(options, field.name, converted)


def check_key(name: str, key: Any) -> None:
    """Raise ChildSpecError unless the key of a pool or of entities can be called with a message."""
    if not callable(key):
        raise ChildSpecError(f"the key of {name} is a function of a message, not {key!r}")

"""Hooks of schemathesis, loaded into its process: who asks, and what would only tell of itself.

FUZZING_ROLE is the role that asks ("nobody" for none); FUZZING_FACTS the file in which a running `up` says what it is.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis.internal.intervalsets import IntervalSet
from hypothesis.strategies._internal import regex

from kit.people import Person, UserFactory
from kit.running import request

ROLE = os.environ["FUZZING_ROLE"]
FACTS = json.loads(Path(os.environ["FUZZING_FACTS"]).read_bytes())
SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_strategy = regex._strategy  # it adds each code point of a class, which takes seconds for text without controls
_classes: dict[tuple[Any, ...], Any] = {}


def strategy(codes: Any, context: Any, is_unicode: Any, *, alphabet: Any) -> Any:
    """The strategy of a part of a regular expression: the same, but a class of characters is made of its ranges."""
    if not isinstance(codes, tuple) or str(codes[0]) != "IN" or context.flags & re.IGNORECASE or not is_unicode:
        return _strategy(codes, context, is_unicode, alphabet=alphabet)
    key = (repr(codes[1]), context.flags, repr(alphabet))
    if key not in _classes:
        _classes[key] = class_of(codes[1], context.flags, alphabet)
    return _classes[key]


def class_of(codes: Any, flags: Any, alphabet: Any) -> Any:
    """The strategy of a class of characters."""
    kinds = [str(kind) for kind, _ in codes]
    builder = regex.CharactersBuilder(negate="NEGATE" in kinds, flags=flags, alphabet=alphabet)
    for kind, (_, value) in zip(kinds, codes, strict=True):
        match kind:
            case "LITERAL":
                builder._intervals |= IntervalSet(((value, value),))
            case "RANGE":
                builder._intervals |= IntervalSet((value,))
            case "CATEGORY":
                builder.add_category(value)
    return builder.strategy


regex._strategy = strategy

# What ends a session or an account: whoever asks for it is somebody new, so that what was made before stays theirs.
ENDING = {
    ("POST", "/api/v1/auth/logout"),
    ("POST", "/api/v1/auth/logout-all"),
    ("POST", "/api/v1/auth/password/change"),
    ("DELETE", "/api/v1/auth/sessions/{session_id}"),
    ("DELETE", "/api/v1/users/me"),
    ("DELETE", "/api/v1/users/{user_id}"),
}
STREAM = "/api/v1/notifications/stream"
# These would change what everybody is answered.
SWITCHES = ("maintenance_mode", "rate_limit_strict")


def producer_key(admin: Person) -> str:
    """A key that an admin has created."""
    given = {"name": admin.email, "types": ["activity.recorded"], "sources": ["*"]}
    made = request("POST", f"{FACTS['HTTP_URL']}/api/v1/producer-keys", token=admin.token, body=given)
    return str(made.data["key"])


if ROLE != "nobody":

    @schemathesis.auth(refresh_interval=None)
    class Asking:
        """Bearer tokens of people of the role."""

        def __init__(self) -> None:
            self.people = UserFactory(FACTS)
            self.person = self.people.person(ROLE)
            self.key = producer_key(self.person) if ROLE == "admin" else ""

        def get(self, case: schemathesis.Case, _context: Any) -> Person:
            if (case.method.upper(), case.operation.path) in ENDING:
                return self.people.person(ROLE)
            # Admins may still have ended their own account, by its id.
            if request("GET", f"{FACTS['HTTP_URL']}/api/v1/users/me", token=self.person.token).status != 200:
                self.person = self.people.person(ROLE)
            return self.person

        def set(self, case: schemathesis.Case, data: Person, _context: Any) -> None:
            of_producers = self.key and case.operation.path == "/api/v1/events"
            case.headers["Authorization"] = f"Bearer {self.key if of_producers else data.token}"


@schemathesis.serializer("application/offset+octet-stream")
def bytes_of(_context: Any, value: Any) -> bytes:
    """The body of an upload."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def before_call(_context: Any, case: schemathesis.Case, _kwargs: Any) -> None:
    """A request that has no time is answered with 503, as it should; nothing else could be learned then."""
    if case.headers and SECONDS.fullmatch(str(case.headers.get("X-Request-Timeout", ""))):
        case.headers["X-Request-Timeout"] = "10"
    if case.operation.path == STREAM:  # it ends when its client says so
        case.headers["X-Request-Timeout"] = "0.2"
    if case.path_parameters and case.path_parameters.get("name") in SWITCHES:
        case.path_parameters["name"] = "enable_new_ui"

"""Personal data: what each part keeps of a person, how it gives that out, and how it forgets it.

Each module that owns such a table declares a `PersonalData` beside its actor, and its department registers it; a test
walks the schema and asks of every column whether one of them covers it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

# A page of documents: rows of `cursor`, which the next page goes on after, and `document`, which is JSON.
Export = Callable[..., Any]
Erase = Callable[..., Awaitable[Any]]


class PersonalData(msgspec.Struct, frozen=True):
    """One kind of data about a person.

    `name` is its file in an archive. `covers` names the columns by their tables. `export(connection, user_id, after,
    limit)` yields rows of `cursor` and `document`. `erase(connection, user_id, limit)` forgets so many rows at most,
    for good, and returns how many they were: it is called again until that is less. None: there is nothing to forget,
    since what remains says nothing of a person once their account is erased.
    """

    name: str
    covers: Mapping[str, tuple[str, ...]]
    export: Export
    erase: Erase | None = None

"""Personal data: the rows that each module keeps about a person, their export, and their erasure.

Each module with such a table declares a `PersonalData` beside its actor, and its department registers it; a test walks
the schema and checks that every column is covered.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

# A page of documents: rows of `cursor`, where the next page starts, and `document`, which is JSON.
Export = Callable[..., Any]
Erase = Callable[..., Awaitable[Any]]


class PersonalData(msgspec.Struct, frozen=True):
    """One kind of data about a person.

    `name` is its file in an archive. `covers` names the columns by their tables. `export(connection, user_id, after,
    limit)` yields rows of `cursor` and `document`. `erase(connection, user_id, limit)` erases at most `limit` rows for
    good, and returns their number: it is called again until that is less. None says that nothing is erased: the rows
    identify nobody once the account is erased.
    """

    name: str
    covers: Mapping[str, tuple[str, ...]]
    export: Export
    erase: Erase | None = None

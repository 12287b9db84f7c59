"""Batched reads of single rows: reads that arrive while a query runs share the next query."""

import asyncio
from contextvars import Context
from typing import Any, Generic, TypeVar

from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.statements import begin_statement

K = TypeVar("K")

MAX_BATCH = 100  # rows in one query


class Reads(Generic[K]):
    """Reads rows by their key, the column `key`: `query` takes an array of keys and returns the existing rows.

    A query always starts after its reads arrived, so they see all earlier commits. An error of a query goes to all its
    reads.
    """

    def __init__(self, database: Database, query: str, key: str) -> None:
        self._database = database
        self._query = query
        self._key = key
        self._waiting: dict[K, list[asyncio.Future[Any]]] = {}
        self._reader: asyncio.Task[None] | None = None

    def read(self, key: K) -> "asyncio.Future[Any]":
        """Return the row with this key, or None."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        self._waiting.setdefault(key, []).append(reply)
        if (span := begin_statement(self._query)) is not None:
            reply.add_done_callback(span.end_with)
        if self._reader is None:  # in a context of its own: other callers have their own deadlines
            self._reader = loop.create_task(self._read_waiting(), name="reads", context=Context())
        return reply

    async def _read_waiting(self) -> None:
        asked: dict[K, list[asyncio.Future[Any]]] = {}
        try:
            await asyncio.sleep(0)  # for other callers in this turn of the loop
            while asked := self._take():
                try:
                    async with self._database.acquire() as connection:
                        while asked:  # keep the connection while there are reads: acquiring costs as much as reading
                            rows = await connection.fetch(self._query, list(asked))
                            _answer(asked, {row[self._key]: row for row in rows})
                            asked = self._take()
                except Exception as error:  # noqa: BLE001 - whatever it is, it is their answer
                    _fail_reads(asked, error)
        finally:
            self._reader = None
            left, self._waiting = self._waiting, {}
            for each in (asked, left):  # none, unless this task is cancelled
                for replies in each.values():
                    for reply in replies:
                        reply.cancel()

    def _take(self) -> "dict[K, list[asyncio.Future[Any]]]":
        return {key: self._waiting.pop(key) for key in list(self._waiting)[:MAX_BATCH]}


def _answer(asked: "dict[Any, list[asyncio.Future[Any]]]", rows: dict[Any, Any]) -> None:
    for key, replies in asked.items():
        row = rows.get(key)
        for reply in replies:
            if not reply.done():
                reply.set_result(row)


def _fail_reads(asked: "dict[Any, list[asyncio.Future[Any]]]", error: Exception) -> None:
    for replies in asked.values():
        for reply in replies:
            if not reply.done():
                reply.set_exception(error)

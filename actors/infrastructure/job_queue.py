"""The job queue's public face: `JobQueue.enqueue` adds a job in the transaction of its cause.

    async with database.transaction() as connection:
        await QUERIES.add_user(connection, ...)
        await jobs.enqueue(connection, SendMail(mail_id), priority=Priority.SECURITY, deadline_s=3600)

The job exists if and only if that transaction commits, and starts within milliseconds of it. It runs at least once; its
handler's changes in the transaction of `job.finish()` happen exactly once. `unique` keeps at most one unstarted job of
a key: a second cause gets None, and the waiting job will see the changes of that cause. `order` runs the jobs of a key
one at a time, in the order in which their causes committed. `actors/infrastructure/job_kinds.py` shows the declaration
of kinds and handlers.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from callboard.actors.errors import SERVER_OVERLOADED, Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import MAX_PAYLOAD_BYTES, JobKind, Priority
from callboard.runtime import current_context
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

ROOM_TTL_S = 1.0  # how long a process caches its count of waiting jobs
TWIN_TRIES = 20  # only a very fast twin starts, ends and comes again at each attempt

Key = str | None

_encode = msgspec.json.Encoder().encode


class UnknownJobKindError(TypeError):
    """The payload's type belongs to no kind of this process."""


class JobQueue:
    """The queue for actors: enqueue jobs, and check the limit of waiting jobs.

    It holds the kinds of this process and rings after a commit; the worker claims and runs.
    """

    def __init__(self, kinds: Iterable[JobKind[Any]]) -> None:
        self.kinds: dict[str, JobKind[Any]] = {}
        self._by_payload: dict[type, JobKind[Any]] = {}
        self.bells: list[Callable[[], None]] = []  # rings the workers of this process
        self.tellers: list[Callable[[], None]] = []  # notifies the other processes
        self.hinted = False  # whether their notices arrive
        self._rooms: dict[str, tuple[float, int]] = {}
        for kind in kinds:
            if kind.name in self.kinds or kind.payload in self._by_payload:
                raise ValueError(f"job kind {kind.name} or its payload {kind.payload.__name__} is declared twice")
            self.kinds[kind.name] = self._by_payload[kind.payload] = kind

    def kind_of(self, payload: msgspec.Struct) -> JobKind[Any]:
        """Return the kind of this payload. Raises UnknownJobKindError."""
        kind = self._by_payload.get(type(payload))
        if kind is None:
            raise UnknownJobKindError(f"no kind of jobs takes a {type(payload).__name__}")
        return kind

    async def enqueue(
        self,
        connection: Any,
        payload: msgspec.Struct,
        *,
        priority: Priority | None = None,
        delay_s: float = 0.0,
        run_at: datetime | None = None,
        deadline_s: float | None = None,
        deadline: datetime | None = None,
        unique: str | None = None,
        order: str | None = None,
    ) -> int | None:
        """Add a job in the caller's transaction; return its id, or None if a twin already waits.

        It starts `delay_s` after now, or after `run_at`, a time of the domain. After its deadline it is not started.
        Raises UnknownJobKindError, RuntimeError outside of a transaction, and ValueError for a payload over 16 kB.
        """
        kind = self._begin(connection, payload)
        values = self._values(kind, priority, delay_s, deadline_s, run_at=run_at, deadline=deadline)
        if unique is None and order is None:
            (job_id,) = await self._enqueue_plain(connection, [_encoded(kind, payload)], values)
            return job_id
        values |= {
            "unique_key": unique,
            "unique_active": kind.unique_active,
            "order_key": order,
            "payload": _encoded(kind, payload),
        }
        if order is not None:
            await QUERIES.lock_order(connection, kind=kind.name, order_keys=[order])
        for _ in range(1 if unique is None else TWIN_TRIES):
            added: int | None = await QUERIES.enqueue(connection, **values)
            if added is not None:
                self._ring_after(connection)
                return added
            if await self._twins(connection, kind, [unique]):
                return None
        raise Problem(SERVER_OVERLOADED, "Jobs with this key change too fast; try again.", retry_after_s=1)

    async def withdraw(self, connection: Any, kind: JobKind[Any], unique: str) -> bool:
        """Remove the waiting job of a unique key in the caller's transaction; return whether there was one.

        A job that runs goes on.
        """
        return bool(await QUERIES.withdraw(connection, kind=kind.name, unique_key=unique))

    async def submit(
        self,
        database: Database,
        payload: msgspec.Struct,
        *,
        priority: Priority | None = None,
        delay_s: float = 0.0,
        deadline_s: float | None = None,
        admitted: bool = False,
    ) -> int:
        """Add a job without a cause in the database: one statement, its own transaction; return its id.

        With `admitted` it raises Problem(SERVER_OVERLOADED) as `admit` does. Raises the errors of `enqueue`.
        """
        kind = self.kind_of(payload)
        values = self._values(kind, priority, delay_s, deadline_s)
        async with database.acquire() as connection:
            if admitted:
                await self.admit(connection, kind)
            (job_id,) = await self._enqueue_plain(connection, [_encoded(kind, payload)], values)
        return job_id

    async def enqueue_many(
        self,
        connection: Any,
        payloads: Sequence[msgspec.Struct],
        *,
        priority: Priority | None = None,
        delay_s: float = 0.0,
        run_at: datetime | None = None,
        deadline_s: float | None = None,
        deadline: datetime | None = None,
        unique: Sequence[str | None] | None = None,
        order: Sequence[str | None] | None = None,
    ) -> list[int]:
        """Add jobs of one kind as `enqueue` does, in one statement; return the ids of the added ones.

        `unique` and `order` have a key, or None, for each payload. Raises the errors of `enqueue`.
        """
        if not payloads:
            return []
        kind = self._begin(connection, payloads[0])
        if any(type(payload) is not kind.payload for payload in payloads):
            raise UnknownJobKindError(f"not all of these payloads are a {kind.payload.__name__}")
        texts = [_encoded(kind, payload) for payload in payloads]
        values = self._values(kind, priority, delay_s, deadline_s, run_at=run_at, deadline=deadline)
        if unique is None and order is None:
            return await self._enqueue_plain(connection, texts, values)
        none: list[Key] = [None] * len(texts)
        keyed = list(zip(texts, unique or none, order or none, strict=True))
        added = await self._enqueue_keyed(connection, kind, values | {"unique_active": kind.unique_active}, keyed)
        self._ring_after(connection)
        return added

    async def _enqueue_plain(self, connection: Any, payloads: list[str], values: dict[str, Any]) -> list[int]:
        """Add jobs without keys, which costs PostgreSQL two thirds of what keys cost."""
        added = [row["job_id"] async for row in QUERIES.enqueue_plain(connection, payloads=payloads, **values)]
        self._ring_after(connection)
        return added

    async def _enqueue_keyed(
        self, connection: Any, kind: JobKind[Any], values: dict[str, Any], left: "list[tuple[str, Key, Key]]"
    ) -> list[int]:
        """Add (payload, unique key, order key) until each is added, or has a twin."""
        if any(order is not None for _, _, order in left):
            await QUERIES.lock_order(connection, kind=kind.name, order_keys=[order for _, _, order in left])
        added: list[int] = []
        for _ in range(TWIN_TRIES):
            rows = [
                (row["job_id"], row["unique_key"])
                async for row in QUERIES.enqueue_many(
                    connection,
                    payloads=[text for text, _, _ in left],
                    unique_keys=[key for _, key, _ in left],
                    order_keys=[key for _, _, key in left],
                    **values,
                )
            ]
            added += [job_id for job_id, _ in rows]
            here = {key for _, key in rows}
            met = [key for _, key, _ in left if key is not None and key not in here]
            twins = await self._twins(connection, kind, met) if met else set()
            left = [each for each in left if each[1] is not None and each[1] not in here and each[1] not in twins]
            if not left:
                return added
        raise Problem(SERVER_OVERLOADED, "Jobs with this key change too fast; try again.", retry_after_s=1)

    async def admit(self, connection: Any, kind: JobKind[Any]) -> None:
        """Raise Problem(SERVER_OVERLOADED) if too many jobs of a kind wait; for requests from outside.

        The count has an upper limit, and each process caches it for a second.
        """
        now = asyncio.get_running_loop().time()
        counted_at, waiting = self._rooms.get(kind.name, (-ROOM_TTL_S, 0))
        if now - counted_at >= ROOM_TTL_S:
            waiting = await QUERIES.count_unfinished(connection, kind=kind.name, most=kind.max_waiting)
            counted_at = now
        self._rooms[kind.name] = counted_at, waiting + 1  # one more is coming
        if waiting >= kind.max_waiting:
            raise Problem(SERVER_OVERLOADED, retry_after_s=1)

    def ring(self) -> None:
        """Announce work to this process and the others."""
        self.wake()
        for tell in self.tellers:
            tell()

    def wake(self) -> None:
        """Announce work to this process only."""
        for bell in self.bells:
            bell()

    def _begin(self, connection: Any, payload: msgspec.Struct) -> JobKind[Any]:
        if not connection.is_in_transaction():
            raise RuntimeError("enqueue() must be called inside the transaction of the job's cause")
        return self.kind_of(payload)

    def _values(
        self,
        kind: JobKind[Any],
        priority: Priority | None,
        delay_s: float,
        deadline_s: float | None,
        *,
        run_at: datetime | None = None,
        deadline: datetime | None = None,
    ) -> dict[str, Any]:
        context = current_context()
        return {
            "kind": kind.name,
            "version": kind.version,
            "priority": int(kind.priority if priority is None else priority),
            "run_at": run_at,
            "delay_s": delay_s,
            "deadline": deadline,
            "deadline_s": kind.deadline_s if deadline_s is None else deadline_s,
            "max_attempts": kind.max_attempts,
            "traceparent": context.traceparent if context else None,
        }

    def _ring_after(self, connection: Any) -> None:
        if hasattr(connection, "on_commit"):  # else its kind has no pool here, and a poll finds the job
            connection.on_commit(self.ring)

    async def _twins(self, connection: Any, kind: JobKind[Any], keys: Sequence[str | None]) -> set[str]:
        """Return the keys of waiting jobs, which cannot start before we commit; with `unique_active` also of running
        ones.
        """
        found = {row["unique_key"] async for row in QUERIES.lock_twins(connection, kind=kind.name, unique_keys=keys)}
        if kind.unique_active and len(found) < len(set(keys)):
            rows = QUERIES.active_twins(connection, kind=kind.name, unique_keys=keys)
            found |= {row["unique_key"] async for row in rows}
        return found


def _encoded(kind: JobKind[Any], payload: msgspec.Struct) -> str:
    text = _encode(payload)
    # PostgreSQL writes jsonb with a space after each comma and colon.
    if len(text) + text.count(b",") + text.count(b":") > MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"the payload of a {kind.name} job is over {MAX_PAYLOAD_BYTES} bytes: put ids in it, not contents"
        )
    return text.decode()

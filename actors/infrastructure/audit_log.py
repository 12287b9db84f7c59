"""The audit log: security events, with actor, affected user, origin and time. Entries are never changed.

`record` writes an entry in the transaction of its change. Failed logins have no transaction and may come in thousands:
`FailedLogins` counts them in memory, and `AuditRecorder` writes the counts.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any, Literal, NewType, Protocol
from uuid import UUID

import msgspec

from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.principals import Principal
from callboard.runtime import Actor, Request, current_context, on
from callboard.streams.event_types import UtcDatetime
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

MAX_AGENT = 400  # as schema.sql has it
ACTION = re.compile(r"[a-z_]{1,29}\.[a-z_]{1,30}")  # likewise
V6_PREFIX = 64  # the smallest network of a subscriber, RFC 6177

log = logging.getLogger("callboard.audit")


AuditAction = NewType("AuditAction", str)  # the name of a kind of security event, such as `login.failed`
ACTIONS: set[AuditAction] = set()  # every declared one of this process


def declare_action(name: str) -> AuditAction:
    """Declare a kind of security event, beside the others of its department. Names are stable: clients and alerts
    filter by them.

    Raises ValueError for a name that the table would refuse, or that is declared twice.
    """
    if not ACTION.fullmatch(name) or name in ACTIONS:
        raise ValueError(f"{name!r} is no new name of a security event")
    ACTIONS.add(action := AuditAction(name))
    return action


Actors = Literal["user", "anonymous", "operator", "system"]
OPERATOR: Literal["operator"] = "operator"
SYSTEM: Literal["system"] = "system"


class Origin(Protocol):
    """The origin of a request; it travels in the context, so every actor that works on the request has it."""

    @property
    def ip(self) -> str | None:
        """The client's address."""

    @property
    def user_agent(self) -> str:
        """The client's User-Agent."""

    @property
    def caller(self) -> Principal | None:
        """The user of the request's token."""


class CommandLine(msgspec.Struct, frozen=True):
    """The origin of an operator's command."""

    user_agent: str
    ip: str | None = None
    caller: Principal | None = None


class AuditEntry(msgspec.Struct, frozen=True):
    """A security event. `actor` caused it (`actor_id`, if it was a user); `user_id` is the affected user.

    For `login.failed` and `login.locked` `detail.count` is the number of attempts from there since the entry before.
    """

    audit_id: int
    occurred_at: UtcDatetime
    action: str
    actor: Actors
    actor_id: UUID | None
    user_id: UUID | None
    ip: str | None
    user_agent: str | None
    trace_id: str | None
    detail: dict[str, Any]


class ListAuditEntries(Request[list[AuditEntry]], frozen=True):
    """List entries from `since` up to, not including, `until`, newest first, after (`before`, `before_id`); None means
    no filter. `user_id` selects entries about the user, and entries that the user caused.
    """

    limit: int
    action: str | None = None
    user_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: datetime | None = None
    before_id: int | None = None


async def record(
    connection: Any,
    action: AuditAction,
    *,
    of: UUID | None = None,
    by: UUID | Literal["operator", "system"] | None = None,
    **detail: Any,
) -> None:
    """Write an entry (see `draft`) in the caller's transaction; its log line follows the commit."""
    written, tell = draft(action, of=of, by=by, **detail)
    await QUERIES.add_entry(connection, entry=written)
    connection.on_commit(tell)


def draft(
    action: AuditAction,
    *,
    of: UUID | None = None,
    by: UUID | Literal["operator", "system"] | None = None,
    **detail: Any,
) -> tuple[str, Callable[[], None]]:
    """Return an entry as JSON, for a statement that writes it with the change, and the callback that logs it after the
    commit.

    `of` is the affected user. The default of `by` is the caller of the current request, anonymous without a token; at a
    command line the operator; else the system. `detail` is small, holds no secret, and holds addresses only in the form
    of `redact_email`.
    """
    origin = _origin()
    actor, actor_id = _actor(origin, by)
    entry = {
        "action": action,
        "actor": actor,
        "actor_id": actor_id,
        "user_id": of,
        "ip": _address(origin.ip) if origin else None,
        "user_agent": (origin.user_agent[:MAX_AGENT] or None) if origin else None,
        "trace_id": _trace_id(),
    }
    return msgspec.json.encode({**entry, "detail": detail}).decode(), lambda: _log(entry, detail)


def _origin() -> Origin | None:
    context = current_context()
    return context.baggage if context is not None else None


def origin_network() -> str:
    """Return the network of the current request's client: an IPv4 address, the /64 of an IPv6 address, or `unknown`."""
    origin = _origin()
    return _network(origin.ip) if origin else "unknown"


def _trace_id() -> str | None:
    context = current_context()
    return ((context.traceparent if context else None) or "").partition("-")[2].partition("-")[0] or None


def _actor(origin: Origin | None, by: UUID | str | None) -> tuple[Actors, UUID | None]:
    if isinstance(by, UUID):
        return "user", by
    if by == OPERATOR or (by is None and isinstance(origin, CommandLine)):
        return OPERATOR, None
    if by == SYSTEM or origin is None:
        return SYSTEM, None
    return ("user", origin.caller.user_id) if origin.caller is not None else ("anonymous", None)


def _address(text: str | None) -> str | None:
    """Return the address in PostgreSQL's form; None if it is no IP address, such as the path of a socket."""
    try:
        return str(ip_address((text or "").partition("%")[0]))
    except ValueError:
        return None


def _network(text: str | None) -> str:
    address = _address(text)
    if address is None:
        return "unknown"
    return str(ip_network((address, V6_PREFIX), strict=False)) if ":" in address else address


def _log(entry: dict[str, Any], detail: dict[str, Any]) -> None:
    """Log one line for each entry."""
    known = {name: str(value) for name, value in entry.items() if value is not None}
    where = {"ip_address": known.pop("ip", None), "user_agent": known.pop("user_agent", None)}
    log.info("%s", entry["action"], extra={**known, "context": where, "detail": detail})


# Failed logins -------------------------------------------------------------------------------------------------------


class Failures(msgspec.Struct):
    """Failed logins of one account from one network that are not written yet."""

    opened_at: float
    count: int = 0
    is_written: bool = False
    ip: str | None = None
    user_agent: str | None = None
    trace_id: str | None = None


FailureKey = tuple[AuditAction, UUID | None, str]


class FailedLogins:
    """Counts failed logins by account and network, in bounded memory and at the same cost for every address.

    The first failure of a key is due at once, later ones together at the end of the window. Once there are `most` keys,
    of known accounts or of unknown ones, further failures count under one anonymous key. So a process writes a bounded
    number of entries, and a flood of unknown accounts hides no attack on a known one. The addresses are not stored:
    they may be anybody's, or a password in the wrong field.
    """

    WINDOW_S = 900.0

    def __init__(self, now: Callable[[], float], *, most: int = 100) -> None:
        self._now = now
        self._most = most
        self._waiting: dict[FailureKey, Failures] = {}

    def count(self, action: AuditAction, user_id: UUID | None) -> None:
        """Count one, from the origin of the current request."""
        origin = _origin()
        key: FailureKey = (action, user_id, origin_network())
        waiting = self._waiting.get(key)
        if waiting is None:
            known = sum((each[1] is None) == (user_id is None) for each in self._waiting)
            key = key if known < self._most else (action, None, "")
            waiting = self._waiting.get(key)
            if waiting is None:
                waiting = self._waiting[key] = Failures(self._now())
        waiting.count += 1
        if origin is not None:
            waiting.ip = _address(origin.ip) if key[2] else None
            waiting.user_agent = origin.user_agent[:MAX_AGENT] or None
        waiting.trace_id = _trace_id()

    def due(self, *, whole: bool = False) -> list[tuple[FailureKey, Failures]]:
        """Return copies of the counts that are due, so that counting goes on while they are written; `whole` returns
        all counts.
        """
        now, due = self._now(), []
        for key, waiting in tuple(self._waiting.items()):
            over = now - waiting.opened_at >= self.WINDOW_S
            if waiting.count and (whole or over or not waiting.is_written):
                due.append((key, msgspec.structs.replace(waiting)))
            elif over:
                del self._waiting[key]
        return due

    def subtract(self, written: list[tuple[FailureKey, Failures]]) -> None:
        """Subtract written counts, and start a window for each."""
        for key, was in written:
            waiting = self._waiting[key]
            waiting.count -= was.count
            waiting.is_written, waiting.opened_at = True, self._now()


class WriteFailures(Request[int], frozen=True):
    """Write the failed logins that are due; the reply is the number of entries."""


class AuditRecorder(Actor[WriteFailures]):
    """Writes failed logins, each second and at the stop. Counts that cannot be written are kept."""

    INTERVAL_S = 1.0

    def __init__(self, database: Database, failures: FailedLogins) -> None:
        self.database = database
        self.failures = failures

    async def on_start(self) -> None:
        """Start the rounds."""
        self.every(self.INTERVAL_S, WriteFailures())

    async def on_stop(self) -> None:
        """Write all counts, if the database is available."""
        with suppress(Problem):
            await self._write(self.failures.due(whole=True))

    @on(WriteFailures)
    def write(self, _message: WriteFailures) -> int | Awaitable[int]:
        """Without failures no statement is sent, and no task is woken."""
        due = self.failures.due()
        return self._try(due) if due else 0

    async def _try(self, due: list[tuple[FailureKey, Failures]]) -> int:
        with suppress(Problem):  # PostgreSQL is unavailable: they are still due
            await self._write(due)
        return len(due)

    async def _write(self, due: list[tuple[FailureKey, Failures]]) -> None:
        if not due:
            return
        entries = [(*key[:2], each, {"count": each.count}) for key, each in due]
        async with self.database.acquire() as connection:
            await QUERIES.add_failures(
                connection,
                actions=[action for action, _, _, _ in entries],
                user_ids=[user_id for _, user_id, _, _ in entries],
                ips=[each.ip for _, _, each, _ in entries],
                user_agents=[each.user_agent for _, _, each, _ in entries],
                trace_ids=[each.trace_id for _, _, each, _ in entries],
                details=[msgspec.json.encode(detail).decode() for _, _, _, detail in entries],
            )
        self.failures.subtract(due)
        for action, user_id, each, detail in entries:
            facts = {"ip": each.ip, "user_agent": each.user_agent, "trace_id": each.trace_id}
            _log({"action": action, "actor": "anonymous", "user_id": user_id, **facts}, detail)


# Reading -------------------------------------------------------------------------------------------------------------


class AuditLog(Actor[ListAuditEntries]):
    """Answers queries of the entries; the workers of the pool share no state."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @on(ListAuditEntries)
    async def list_entries(self, message: ListAuditEntries) -> list[AuditEntry]:
        """Read one page by an index."""
        filters = msgspec.structs.asdict(message)
        user_id, action = filters.pop("user_id"), filters.pop("action")
        async with self.database.acquire() as connection:
            if user_id is not None:
                rows = QUERIES.entries_of(connection, user_id=user_id, action=action, **filters)
            elif action is not None:
                rows = QUERIES.entries_by_action(connection, action=action, **filters)
            else:
                rows = QUERIES.entries(connection, **filters)
            return [_entry(row) async for row in rows]


async def erase(connection: Any, user_id: UUID, limit: int | None = None) -> int:  # noqa: ARG001 - see PersonalData
    """Erase a user's origin and client from the entries, all at once; return the number of changed entries."""
    return int(await QUERIES.erase(connection, user_id=user_id))


PERSONAL_DATA = PersonalData(
    "security_events",
    {"audit_log": ("actor_id", "user_id", "ip", "user_agent", "detail")},
    QUERIES.export_entries,
    erase,
)


def _entry(row: Any) -> AuditEntry:
    fields = {name: row[name] for name in AuditEntry.__struct_fields__}
    return AuditEntry(**{**fields, "detail": msgspec.json.decode(row["detail"])})

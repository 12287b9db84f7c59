"""Producer keys: the programs that may send events over HTTP, each with the types, sources and quota that it may use.

A key is shown once. The database has a hash of its secret, which is random and long: a plain SHA-256 is enough.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta

from callboard.actors.errors import REQUEST_INVALID, FieldError, Problem
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.infrastructure import audit_log
from callboard.actors.infrastructure.audit_log import declare_action
from callboard.actors.infrastructure.database import Database, retried
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.ingestion.errors import KEYS_FULL, KEYS_INVALID, KEYS_NAME_TAKEN, KEYS_NOT_FOUND
from callboard.runtime import Actor, Request, on
from callboard.streams.event_parts import SOURCE_LIMIT
from callboard.streams.event_types import EVENTS, OUR_SOURCE, UtcDatetime
from callboard.streams.queries import queries_beside
from callboard.streams.visible_text import visible

KEY_CREATED = declare_action("key.created")
KEY_USED = declare_action("key.used")
KEY_REVOKED = declare_action("key.revoked")
QUERIES = queries_beside(__file__)

MAX_KEYS = 1_000
MAX_SOURCES = 50
MAX_NAME = 100
MAX_NETWORKS = 20  # of a key in an hour, whose use is recorded
HOURLY_EVENTS = 1_000_000
HOURLY_BYTES = 1 << 30

_KEY = re.compile(r"cbk_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
_NO_HASH = hashlib.sha256().digest()

KeyName = Annotated[str, visible(1, MAX_NAME)]
Source = Annotated[str, visible(1, SOURCE_LIMIT, as_sent=True)]
HourlyEvents = Annotated[int, Meta(ge=1, le=1_000_000_000)]
HourlyBytes = Annotated[int, Meta(ge=1, le=1 << 50)]


class KeyHolder(msgspec.Struct, frozen=True):
    """The producer that a valid key stands for."""

    key_id: UUID
    name: str


class ProducerKey(msgspec.Struct, frozen=True):
    """A producer key without its secret. `used_at` is the time of its last accepted request."""

    key_id: UUID
    name: str
    types: tuple[str, ...]
    sources: tuple[str, ...]
    hourly_events: int
    hourly_bytes: int
    created_at: UtcDatetime
    used_at: UtcDatetime | None
    revoked_at: UtcDatetime | None

    def allows_source(self, source: str) -> bool:
        """Whether the key names a source, or its beginning and `*`."""
        return any(source == each or (each.endswith("*") and source.startswith(each[:-1])) for each in self.sources)


class NewProducerKey(ProducerKey, frozen=True):
    """A new producer key, with the text that the producer sends: it is shown once."""

    key: str

    def __repr__(self) -> str:
        """Without the key."""
        return f"NewProducerKey({self.key_id})"


class CreateKey(Request[NewProducerKey], frozen=True):
    """Create a key for some types and sources; a source that ends with `*` stands for all with this beginning.

    Raises Problem(REQUEST_INVALID, KEYS_NAME_TAKEN, KEYS_FULL, AUTH_STEP_UP_REQUIRED). `caller` None is an operator at
    a command line, as below.
    """

    name: str
    types: tuple[str, ...]
    sources: tuple[str, ...]
    hourly_events: int | None = None
    hourly_bytes: int | None = None
    caller: Principal | None = None


class ListKeys(Request[list[ProducerKey]], frozen=True):
    """List keys, revoked ones too, newest first, after (`before`, `before_id`)."""

    limit: int
    before: datetime | None = None
    before_id: UUID | None = None


class RevokeKey(Request[None], frozen=True):
    """Revoke a key, in force in every process at the reply. Raises Problem(KEYS_NOT_FOUND, AUTH_STEP_UP_REQUIRED)."""

    key_id: UUID
    caller: Principal | None = None


class AuthenticateKey(Request[KeyHolder], frozen=True):
    """Find the holder of a key. Raises Problem(KEYS_INVALID), the same for every key that is not valid."""

    key: str

    def __repr__(self) -> str:
        """Without the key."""
        return "AuthenticateKey(...)"


KeyMessage = CreateKey | ListKeys | RevokeKey | AuthenticateKey


def key_faults(types: Sequence[str], sources: Sequence[str]) -> list[FieldError]:
    """Return the faults of a key's types and sources: no key is for what only we write."""
    open_types = sorted(name for name, declared in EVENTS.items() if declared.open_to_producers)
    faults = [
        FieldError(f"types[{index}]", f"Must be one of {', '.join(open_types)}.")
        for index, name in enumerate(types)
        if name not in open_types
    ]
    ours = [index for index, source in enumerate(sources) if source == OUR_SOURCE]
    return [*faults, *(FieldError(f"sources[{index}]", "Only Callboard has this source.") for index in ours)]


class ProducerKeys(Actor[KeyMessage]):
    """Creates, lists, revokes and verifies keys. Nothing is cached: a revoked key is refused at once everywhere."""

    def __init__(
        self,
        database: Database,
        identity: IdentityRefs | None = None,
        *,
        max_keys: int = MAX_KEYS,
        hourly_events: int = HOURLY_EVENTS,
        hourly_bytes: int = HOURLY_BYTES,
    ) -> None:
        self.database = database
        self.identity = identity
        self.max_keys = max_keys
        self.hourly_events = hourly_events
        self.hourly_bytes = hourly_bytes

    @on(CreateKey)
    async def create(self, message: CreateKey) -> NewProducerKey:
        """The secret leaves this process in the reply, and in nothing else."""
        if faults := key_faults(message.types, message.sources):
            raise Problem(REQUEST_INVALID, details=tuple(faults))
        await self._require_step_up(message.caller)
        key_id, secret = uuid4(), secrets.token_urlsafe(32)
        created = await self._add(message, key_id, secret)
        return NewProducerKey(**msgspec.structs.asdict(created), key=f"cbk_{key_id.hex}_{secret}")

    @retried
    async def _add(self, message: CreateKey, key_id: UUID, secret: str) -> ProducerKey:
        async with self.database.transaction() as connection:
            await QUERIES.lock_creation(connection)
            row = await QUERIES.add_key(
                connection,
                key_id=key_id,
                name=message.name,
                secret_hash=_hash(secret),
                types=sorted(set(message.types)),
                sources=sorted(set(message.sources)),
                hourly_events=message.hourly_events or self.hourly_events,
                hourly_bytes=message.hourly_bytes or self.hourly_bytes,
            )
            if row is None:
                raise Problem(KEYS_NAME_TAKEN)
            if await QUERIES.count_keys(connection) > self.max_keys:
                raise Problem(KEYS_FULL)
            created = key_of(row)
            await audit_log.record(
                connection,
                KEY_CREATED,
                key_id=key_id,
                name=created.name,
                types=created.types,
                sources=len(created.sources),
            )
        return created

    @on(ListKeys)
    async def list_keys(self, message: ListKeys) -> list[ProducerKey]:
        """Read a page."""
        async with self.database.acquire() as connection:
            rows = QUERIES.list_keys(
                connection, limit=message.limit, before=message.before, before_id=message.before_id
            )
            return [key_of(row) async for row in rows]

    @on(RevokeKey)
    async def revoke(self, message: RevokeKey) -> None:
        """A request of the key that is in progress ends before."""
        await self._require_step_up(message.caller)
        await self._revoke(message.key_id)

    @retried
    async def _revoke(self, key_id: UUID) -> None:
        async with self.database.transaction() as connection:
            row = await QUERIES.revoke_key(connection, key_id=key_id)
            if row is None:
                raise Problem(KEYS_NOT_FOUND)
            if row["is_change"]:
                await audit_log.record(connection, KEY_REVOKED, key_id=key_id, name=row["name"])

    @on(AuthenticateKey)
    async def authenticate(self, message: AuthenticateKey) -> KeyHolder:
        """The comparison takes the same time for every secret, and happens for unknown keys too."""
        parsed = _KEY.fullmatch(message.key)
        if parsed is None:
            raise Problem(KEYS_INVALID)
        async with self.database.acquire() as connection:
            row = await QUERIES.secret_of(connection, key_id=UUID(parsed[1]))
        if not hmac.compare_digest(_hash(parsed[2]), _NO_HASH if row is None else row["secret_hash"]) or row is None:
            raise Problem(KEYS_INVALID)
        return KeyHolder(row["key_id"], row["name"])

    async def _require_step_up(self, caller: Principal | None) -> None:
        if caller is not None and self.identity is not None:
            await self.identity.require_step_up(caller)


class KeyUses:
    """The networks that used each key in this hour, as far as this process has recorded them: memory is bounded."""

    def __init__(self) -> None:
        self._hour = 0
        self._networks: dict[UUID, set[str]] = {}

    def is_new(self, key_id: UUID, now: datetime, network: str) -> bool:
        """Whether the use is to be recorded."""
        known = self._networks.get(key_id, set()) if self._hour == _hour(now) else set()
        return network not in known and len(known) < MAX_NETWORKS

    def add(self, key_id: UUID, now: datetime, network: str) -> None:
        """Remember it; the first use of an hour forgets the hour before."""
        if self._hour != _hour(now):
            self._hour, self._networks = _hour(now), {}
        self._networks.setdefault(key_id, set()).add(network)


def _hour(now: datetime) -> int:
    return int(now.timestamp() // 3600)


def key_of(row: Any) -> ProducerKey:
    """Return the key in a row, without its secret."""
    return msgspec.convert(dict(row), ProducerKey)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()

"""Producer keys: shown once, a hash at rest, nothing of ours allowed, revoked at once."""

import asyncio
import hashlib
from typing import Any
from uuid import uuid4

import pytest
from kit.audited import From, actions, request
from kit.domain import Domain, log_in, refused, whoami

from callboard.actors.errors import REQUEST_INVALID, Problem
from callboard.actors.identity.errors import AUTH_STEP_UP_REQUIRED
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.ingestion.department import IngestionSettings
from callboard.actors.ingestion.errors import KEYS_FULL, KEYS_INVALID, KEYS_NAME_TAKEN, KEYS_NOT_FOUND
from callboard.actors.ingestion.producer_keys import (
    AuthenticateKey,
    CreateKey,
    ListKeys,
    NewProducerKey,
    ProducerKeys,
    RevokeKey,
)
from callboard.actors.ingestion.refs import IngestionRefs


@pytest.fixture
def keys(domain: Domain) -> Any:
    return domain.built.refs(IngestionRefs).keys


async def made(keys: Any, name: str = "Web", **more: Any) -> NewProducerKey:
    given = {"types": ("activity.recorded",), "sources": ("/web",)} | more
    created: NewProducerKey = await keys.ask(CreateKey(name, **given))
    return created


async def admin(domain: Domain) -> Principal:
    """An admin with a session that has just confirmed its password."""
    await domain.person(Role.ADMIN, email="admin@example.org")
    return await whoami(domain, await log_in(domain, "admin@example.org"))


async def test_a_new_key_is_that_of_its_holder(keys: Any) -> None:
    created = await made(keys)
    holder = await keys.ask(AuthenticateKey(created.key))
    assert (holder.key_id, holder.name) == (created.key_id, "Web")
    (listed,) = await keys.ask(ListKeys(10))
    assert (listed.types, listed.sources, listed.used_at) == (("activity.recorded",), ("/web",), None)
    assert (listed.hourly_events, listed.hourly_bytes) == (1_000_000, 1 << 30)


async def test_no_secret_is_at_rest_in_a_repr_or_in_the_audit_log(
    domain: Domain, keys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        created = await made(keys)
        await keys.ask(AuthenticateKey(created.key))
    secret = created.key.removeprefix(f"cbk_{created.key_id.hex}_")
    (row,) = await domain.rows("select * from producer_keys")
    assert row["secret_hash"] == hashlib.sha256(secret.encode()).digest()
    everywhere = [
        *(str(value) for value in row.values()),
        *(str(each) for each in await domain.rows("select * from audit_log")),
        repr(created),
        repr(AuthenticateKey(created.key)),
        caplog.text,
    ]
    assert [text for text in everywhere if secret in text] == []


async def test_every_key_that_is_not_valid_is_refused_alike(keys: Any) -> None:
    created = await made(keys)
    other = await made(keys, "Other")
    for wrong in (
        *("", "x", created.key[:-1], created.key + "a", created.key.upper(), f" {created.key}"),
        f"cbk_{uuid4().hex}_{created.key[-43:]}",
        f"cbk_{created.key_id.hex}_{other.key[-43:]}",
        f"cbk_{created.key_id.hex}_{'A' * 43}",
        created.key.replace("_", "\0", 1),
    ):
        with refused(KEYS_INVALID):
            await keys.ask(AuthenticateKey(wrong))


async def test_a_revoked_key_is_refused_in_every_process_and_its_name_is_free(other: Domain, keys: Any) -> None:
    created = await made(keys)
    elsewhere = other.built.refs(IngestionRefs).keys
    await elsewhere.ask(AuthenticateKey(created.key))
    await keys.ask(RevokeKey(created.key_id))
    for each in (keys, elsewhere):
        with refused(KEYS_INVALID):
            await each.ask(AuthenticateKey(created.key))
    await keys.ask(RevokeKey(created.key_id))  # again: nothing changes
    assert [each.name for each in await keys.ask(ListKeys(10)) if each.revoked_at] == ["Web"]
    await made(keys)
    with refused(KEYS_NOT_FOUND):
        await keys.ask(RevokeKey(uuid4()))


async def test_names_are_unique_in_any_case(keys: Any) -> None:
    await made(keys)
    with refused(KEYS_NAME_TAKEN):
        await made(keys, "WEB")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"types": ("activity.recorded", "content.published")}, "types[1]"),
        ({"types": ("user.registered",)}, "types[0]"),
        ({"types": ("page.viewed",)}, "types[0]"),
        ({"sources": ("/web", "callboard")}, "sources[1]"),
    ],
)
async def test_no_key_is_for_what_only_we_write(keys: Any, given: Any, field: str) -> None:
    with refused(REQUEST_INVALID) as caught:
        await made(keys, **given)
    assert [each.field for each in caught.value.details] == [field]


async def test_keys_are_bounded(domain: Domain, keys: Any) -> None:
    few = ProducerKeys(domain.database, max_keys=2)
    first = await few.create(CreateKey("1", ("activity.recorded",), ("/a",)))
    await few.create(CreateKey("2", ("activity.recorded",), ("/a",)))
    with refused(KEYS_FULL):
        await few.create(CreateKey("3", ("activity.recorded",), ("/a",)))
    await keys.ask(RevokeKey(first.key_id))
    await few.create(CreateKey("3", ("activity.recorded",), ("/a",)))


async def test_simultaneous_creations_do_not_exceed_the_bound_together(domain: Domain) -> None:
    few = ProducerKeys(domain.database, max_keys=2)
    made = (few.create(CreateKey(str(number), ("activity.recorded",), ("/a",))) for number in range(6))
    results = await asyncio.gather(*made, return_exceptions=True)
    assert sum(isinstance(each, NewProducerKey) for each in results) == 2
    assert {each.code for each in results if isinstance(each, Problem)} == {KEYS_FULL}


async def test_an_admin_confirms_the_password_and_the_audit_log_tells_of_it(domain: Domain, keys: Any) -> None:
    caller = await admin(domain)
    with request(From(caller=caller)):
        created = await made(keys, caller=caller)
        await keys.ask(RevokeKey(created.key_id, caller))
    assert (await actions(domain))[-2:] == ["key.created", "key.revoked"]
    entries = await domain.rows("select actor_id, detail from audit_log where action like 'key.%'")
    assert {row["actor_id"] for row in entries} == {caller.user_id}
    await domain.pass_time(301)
    for message in (CreateKey("B", ("activity.recorded",), ("/a",), caller=caller), RevokeKey(created.key_id, caller)):
        with refused(AUTH_STEP_UP_REQUIRED):
            await keys.ask(message)


async def test_pages_have_every_key_once(keys: Any) -> None:
    for number in range(5):
        await made(keys, str(number))
    first = await keys.ask(ListKeys(3))
    rest = await keys.ask(ListKeys(3, first[-1].created_at, first[-1].key_id))
    assert [each.name for each in (*first, *rest)] == ["4", "3", "2", "1", "0"]


def test_limits_of_producers_are_settings() -> None:
    assert IngestionSettings().producer_batch_events == 500

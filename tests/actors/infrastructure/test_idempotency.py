"""Idempotency keys: of any number at once one does the work, and nothing is made twice, whoever dies in between."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from kit.domain import ISSUER, PASSWORD, SECRET, Domain, at_once, refused

from callboard.actors.editorial.errors import CONTENT_NOT_FOUND
from callboard.actors.editorial.workflow import CreateContent, Draft
from callboard.actors.errors import REQUEST_KEY_REUSED, SERVER_UNAVAILABLE
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.idempotency import (
    KEY_TTL_S,
    Claim,
    ClaimKey,
    Idempotency,
    ReleaseKey,
    StoredResponse,
    StoreResponse,
    key_name,
)
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Pool, Props, System, pool, supervisor

NAME = key_name(None, "POST", "/api/v1/content", "k")
ANSWER = StoredResponse(201, {"Location": "/api/v1/content/1"}, b'{"status":"success"}')


@pytest.fixture
async def keys(domain: Domain) -> AsyncIterator[Pool[ClaimKey | StoreResponse | ReleaseKey]]:
    made = pool("keys", Props(Idempotency, domain.database, domain.signer), size=16)
    async with System(supervisor("more", made)):
        yield made


async def claimed(keys: Pool[ClaimKey | StoreResponse | ReleaseKey], body: bytes = b"a", lease_s: float = 60) -> Claim:
    claim = await keys.ask(ClaimKey(NAME, body, lease_s))
    assert isinstance(claim, Claim)
    return claim


async def test_of_sixteen_at_once_one_gets_the_claim_and_all_get_its_answer(
    keys: Pool[ClaimKey | StoreResponse],
) -> None:
    won, lost = await at_once(*(keys.ask(ClaimKey(NAME, b"a", 60)) for _ in range(16)))
    claims = [each for each in won if isinstance(each, Claim)]
    assert (len(claims), won.count(None), lost) == (1, 15, [])
    await keys.ask(StoreResponse(claims[0], ANSWER))
    won, _ = await at_once(*(keys.ask(ClaimKey(NAME, b"a", 60)) for _ in range(16)))
    assert won == [ANSWER] * 16


async def test_another_body_is_refused_before_and_after_the_answer(keys: Pool[ClaimKey | StoreResponse]) -> None:
    claim = await claimed(keys)
    for _ in range(2):
        with refused(REQUEST_KEY_REUSED):
            await keys.ask(ClaimKey(NAME, b"b", 60))
        await keys.ask(StoreResponse(claim, ANSWER))


async def test_a_lapsed_claim_goes_to_one_other_who_works_under_the_same_id(
    keys: Pool[ClaimKey | StoreResponse],
) -> None:
    first = await claimed(keys, lease_s=0)
    won, _ = await at_once(*(keys.ask(ClaimKey(NAME, b"a", 60)) for _ in range(16)))
    (second,) = [each for each in won if isinstance(each, Claim)]
    assert second.new_id == first.new_id
    assert second.claim_id != first.claim_id
    await keys.ask(StoreResponse(first, StoredResponse(500, {}, b"late")))  # no longer its business
    await keys.ask(StoreResponse(second, ANSWER))
    await keys.ask(StoreResponse(second, StoredResponse(200, {}, b"again")))
    assert await keys.ask(ClaimKey(NAME, b"a", 60)) == ANSWER


async def test_a_claim_that_is_given_up_is_free_and_keeps_its_id(domain: Domain) -> None:
    one = pool("one", Props(Idempotency, domain.database, domain.signer), size=1)  # which handles them in order
    async with System(supervisor("more", one)):
        first = await claimed(one)
        await one.tell(ReleaseKey(Claim(NAME, uuid4(), first.new_id)))  # another's claim frees nothing
        assert await one.ask(ClaimKey(NAME, b"a", 60)) is None
        await one.tell(ReleaseKey(first))
        assert (await claimed(one)).new_id == first.new_id


async def test_a_key_is_good_for_a_day_and_then_as_new(domain: Domain, keys: Pool[ClaimKey | StoreResponse]) -> None:
    first = await claimed(keys)
    await keys.ask(StoreResponse(first, ANSWER))
    left_s = await domain.value("select extract(epoch from expires_at - now())::float8 from idempotency_keys")
    assert KEY_TTL_S - 5 < left_s <= KEY_TTL_S
    await domain.execute("update idempotency_keys set expires_at = now()")
    second = await claimed(keys, b"another body")
    assert second.new_id != first.new_id


async def test_retention_purges_what_has_expired_and_nothing_else(
    domain: Domain, keys: Pool[ClaimKey | StoreResponse]
) -> None:
    await claimed(keys)
    await keys.ask(ClaimKey(key_name(uuid4(), "POST", "/", "k"), b"a", 60))
    await domain.rows("update idempotency_keys set expires_at = now() where name = $1", NAME)
    await domain.clean_up()
    assert await domain.value("select count(*) from idempotency_keys") == 1
    assert await domain.value("select count(*) from idempotency_keys where name = $1", NAME) == 0


def test_keys_of_different_callers_methods_and_paths_never_meet() -> None:
    caller = UUID(int=1)
    names = {
        key_name(caller, "POST", "/a", "k"),
        key_name(None, "POST", "/a", "k"),
        key_name(UUID(int=2), "POST", "/a", "k"),
        key_name(caller, "PUT", "/a", "k"),
        key_name(caller, "POST", "/b", "k"),
        key_name(caller, "POST", "/a", "l"),
    }
    assert len(names) == 6


async def test_what_is_kept_of_a_body_cannot_be_guessed_from_and_outlives_a_change_of_the_secret(
    domain: Domain, keys: Pool[ClaimKey | StoreResponse]
) -> None:
    body = PASSWORD.encode()
    await keys.ask(StoreResponse(await claimed(keys, body), ANSWER))
    row = (await domain.rows("select * from idempotency_keys"))[0]
    assert not any(body in bytes(value) for value in row.values() if isinstance(value, bytes))
    other = Signer("another secret " * 4, issuer=ISSUER, access_ttl_s=900)
    assert row["fingerprint"] != other.keyed_fingerprint(NAME + body)  # it takes the secret to try a password
    rotated = Signer("another secret " * 4, issuer=ISSUER, access_ttl_s=900, previous=(SECRET,))
    later = pool("later", Props(Idempotency, domain.database, rotated), size=1)
    async with System(supervisor("rotated", later)):
        assert await later.ask(ClaimKey(NAME, body, 60)) == ANSWER


async def test_without_the_database_a_key_is_refused_and_nothing_else_is_done() -> None:
    nowhere = Database("postgresql://127.0.0.1:1/none")
    away = pool("away", Props(Idempotency, nowhere, Signer(SECRET, issuer=ISSUER, access_ttl_s=900)), size=1)
    async with System(supervisor("more", away)):
        with refused(SERVER_UNAVAILABLE):
            await away.ask(ClaimKey(NAME, b"a", 60))


def test_no_repr_shows_a_body_or_an_answer() -> None:
    claim = Claim(NAME, uuid4(), uuid4())
    assert "Secret" not in repr(
        (ClaimKey(NAME, b"Secret", 1), StoreResponse(claim, StoredResponse(201, {}, b"Secret")))
    )


async def test_content_created_again_under_its_id_is_what_is_there_and_has_one_event(domain: Domain) -> None:
    ada, bob = await domain.person(), await domain.person()
    message = CreateContent(uuid4(), Draft("A title", "A body"), ada)
    made = await asyncio.gather(*(domain.content.ask(message) for _ in range(16)))
    assert len({each.content_id for each in made}) == 1
    assert len(await domain.events("content.created")) == 1
    with refused(CONTENT_NOT_FOUND):
        await domain.content.ask(CreateContent(message.content_id, Draft("Mine", ""), bob))

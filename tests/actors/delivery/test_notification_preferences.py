"""Preferences about notifications: the channel of each kind, the digest, and the links that end mails."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest
from kit.domain import ISSUER, SECRET, Domain, refused

from callboard.actors.delivery.errors import NOTIFICATIONS_LINK_INVALID, NOTIFICATIONS_STALE
from callboard.actors.delivery.notification_preferences import (
    Digest,
    GetPreferences,
    NotificationPreferences,
    Preferences,
    ReplacePreferences,
    Unsubscribe,
    UnsubscribeLinks,
)
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.errors import REQUEST_INVALID
from callboard.actors.infrastructure.notification_kinds import DIGEST, Channel, NotificationKind
from callboard.actors.infrastructure.principals import Principal
from callboard.actors.infrastructure.token_signer import Signer
from callboard.runtime import Props, System, supervisor, worker

PUBLISHED, REJECTED = "content_published", "content_rejected"


class Nothing(msgspec.Struct, frozen=True):
    """A notification without data."""


LOCKED = NotificationKind("account_locked", Nothing, "Your account is locked.", default=Channel.MAIL, security=True)


def links(domain: Domain) -> UnsubscribeLinks:
    return domain.built.refs(DeliveryRefs).unsubscribe_links


def token_for(domain: Domain, who: Principal, kind: str) -> str:
    url = links(domain).unsubscribe_url(who.user_id, kind)
    assert url is not None
    return url.partition("?token=")[2]


async def of(domain: Domain, who: Principal) -> Preferences:
    return await domain.preferences.ask(GetPreferences(who.user_id))


async def waiting(domain: Domain, who: Principal, kind: str, seq: int) -> None:
    insert = "insert into notifications (notification_id, user_id, seq, kind, waits) values ($1, $2, $3, $4, true)"
    await domain.rows(insert, uuid4(), who.user_id, seq, kind)


async def test_without_a_choice_every_kind_has_its_default_and_mails_are_sent_at_once(domain: Domain) -> None:
    found = await of(domain, await domain.person())
    assert found.digest is Digest.OFF
    assert (found.channels[PUBLISHED], found.channels[REJECTED]) == (Channel.MAIL, Channel.MAIL)
    assert {each.kind for each in found.kinds} == set(found.channels)
    assert await domain.value("select count(*) from notification_settings") == 0, "to read makes no row"


async def test_what_is_put_is_got_and_what_is_left_out_has_its_default_again(domain: Domain) -> None:
    ada, eve = await domain.person(), await domain.person()
    put = ReplacePreferences(ada.user_id, Digest.WEEKLY, {PUBLISHED: Channel.NONE, REJECTED: Channel.IN_APP})
    changed = await domain.preferences.ask(put)
    assert changed == await of(domain, ada)
    assert (changed.digest, changed.channels[PUBLISHED]) == (Digest.WEEKLY, Channel.NONE)
    again = ReplacePreferences(ada.user_id, changed.digest, changed.channels)
    assert await domain.preferences.ask(again) == changed, "what is got can be put"
    assert (await domain.preferences.ask(ReplacePreferences(ada.user_id, Digest.OFF, {}))) == await of(domain, eve)


async def test_of_two_changes_that_read_the_same_preferences_one_is_stale(domain: Domain) -> None:
    ada = await domain.person()
    tag = (await of(domain, ada)).tag
    changes = [ReplacePreferences(ada.user_id, each, {}, tag) for each in (Digest.DAILY, Digest.WEEKLY)]
    results = await asyncio.gather(*map(domain.preferences.ask, changes), return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["Preferences", "Problem"]
    with refused(NOTIFICATIONS_STALE):
        await domain.preferences.ask(ReplacePreferences(ada.user_id, Digest.OFF, {}, "another"))


async def test_a_kind_that_does_not_exist_is_refused_by_its_field(domain: Domain) -> None:
    ada = await domain.person()
    with refused(REQUEST_INVALID) as caught:
        await domain.preferences.ask(ReplacePreferences(ada.user_id, Digest.OFF, {"gossip": Channel.MAIL}))
    assert [each.field for each in caught.value.details] == ["channels.gossip"]


async def test_a_security_notification_cannot_be_switched_off_by_any_door(domain: Domain) -> None:
    ada = await domain.person()
    kinds = {LOCKED.name: LOCKED}
    own = UnsubscribeLinks(domain.signer, "http://board/api/v1", kinds)
    assert own.unsubscribe_url(ada.user_id, LOCKED.name) is None
    ref = worker("own", Props(NotificationPreferences, domain.database, kinds, own))
    async with System(supervisor("root", ref)):
        for channel in (Channel.NONE, Channel.IN_APP):
            with refused(REQUEST_INVALID) as caught:
                await ref.ask(ReplacePreferences(ada.user_id, Digest.OFF, {LOCKED.name: channel}))
            assert [each.field for each in caught.value.details] == ["channels.account_locked"]
        await ref.ask(ReplacePreferences(ada.user_id, Digest.OFF, {LOCKED.name: Channel.MAIL}))
        every = own.unsubscribe_url(ada.user_id, DIGEST)
        assert every is not None
        await ref.ask(Unsubscribe(every.partition("?token=")[2]))
        assert (await ref.ask(GetPreferences(ada.user_id))).channels == {LOCKED.name: Channel.MAIL}


async def test_a_link_ends_the_mails_of_its_kind_and_its_user_alone_and_may_be_used_again(domain: Domain) -> None:
    ada, eve = await domain.person(), await domain.person()
    token = token_for(domain, ada, PUBLISHED)
    for _ in range(2):
        await domain.preferences.ask(Unsubscribe(token))
        assert (await of(domain, ada)).channels | {PUBLISHED: Channel.IN_APP} == (await of(domain, ada)).channels
        assert (await of(domain, ada)).channels[REJECTED] is Channel.MAIL
        assert (await of(domain, eve)).channels[PUBLISHED] is Channel.MAIL


async def test_a_link_does_not_bring_back_what_was_switched_off(domain: Domain) -> None:
    ada = await domain.person()
    await domain.preferences.ask(ReplacePreferences(ada.user_id, Digest.OFF, {PUBLISHED: Channel.NONE}))
    await domain.preferences.ask(Unsubscribe(token_for(domain, ada, PUBLISHED)))
    assert (await of(domain, ada)).channels[PUBLISHED] is Channel.NONE


async def test_the_link_of_a_digest_ends_all_mails_and_empties_the_next_one(domain: Domain) -> None:
    ada = await domain.person()
    await domain.preferences.ask(ReplacePreferences(ada.user_id, Digest.DAILY, {}))
    await waiting(domain, ada, PUBLISHED, 1)
    await waiting(domain, ada, REJECTED, 2)
    await domain.preferences.ask(Unsubscribe(token_for(domain, ada, PUBLISHED)))
    assert await domain.rows("select kind from notifications where waits") == [{"kind": REJECTED}]
    await domain.preferences.ask(Unsubscribe(token_for(domain, ada, DIGEST)))
    found = await of(domain, ada)
    assert Channel.MAIL not in found.channels.values()
    assert await domain.value("select count(*) from notifications where waits") == 0


async def test_no_text_but_ours_is_a_link(domain: Domain) -> None:
    ada, eve = await domain.person(), await domain.person()
    ours, hers = token_for(domain, ada, PUBLISHED), token_for(domain, eve, PUBLISHED)
    value, _, proof = ours.partition(".")
    forged = [
        *("", ".", value, f"{value}.", f".{proof}", f"{value}.{proof[:-1]}", f"{value}={proof}", f"{value}==.{proof}"),
        *(f"{hers.partition('.')[0]}.{proof}", f"{value}!.{proof}", f"{value[:8]}.{proof}", f"ä.{proof}"),
    ]
    for token in forged:
        with refused(NOTIFICATIONS_LINK_INVALID):
            await domain.preferences.ask(Unsubscribe(token))
    assert await domain.value("select count(*) from notification_settings") == 0


async def test_a_link_is_good_for_years_and_after_the_key_has_been_replaced(domain: Domain) -> None:
    ada = await domain.person()
    token = token_for(domain, ada, PUBLISHED)
    late = datetime.now(UTC) + timedelta(days=3650)
    newer = Signer("n" * 64, issuer=ISSUER, access_ttl_s=900, previous=(SECRET,), now=lambda: late)
    without = Signer("n" * 64, issuer=ISSUER, access_ttl_s=900)
    assert UnsubscribeLinks(newer, "", {}).read(token) == (ada.user_id, PUBLISHED)
    with refused(NOTIFICATIONS_LINK_INVALID):
        UnsubscribeLinks(without, "", {}).read(token)


async def test_the_link_of_somebody_who_is_gone_does_nothing(domain: Domain) -> None:
    ada = await domain.person()
    token = token_for(domain, ada, PUBLISHED)
    await domain.execute("update users set deleted_at = now()")
    await domain.preferences.ask(Unsubscribe(token))
    assert await domain.value("select count(*) from notification_settings") == 0
    assert token not in repr(Unsubscribe(token))


@pytest.mark.parametrize(
    "faulty",
    [
        {"text": "{title}"},
        {"link": "/content/{content_id}"},
        {"name": DIGEST},
        {"security": True, "default": Channel.NONE},
    ],
)
def test_a_kind_that_no_notification_can_be_of_is_refused_where_it_is_declared(faulty: dict[str, object]) -> None:
    fields: dict[str, object] = {"name": "a", "data": Nothing, "text": "b"}
    with pytest.raises(ValueError, match=r"notifications"):
        NotificationKind(**(fields | faulty))  # type: ignore[arg-type]  # each is of the right type

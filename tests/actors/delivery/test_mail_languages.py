"""The language of a user's mails, and the link that stops those that may be stopped."""

import email
import email.policy
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.domain import PASSWORD, Domain
from kit.mail_post import URL, Post, misbehaving, verification

from callboard.actors.delivery.events import TemplatedEmailRequested
from callboard.actors.identity.profiles import GetProfile, Profiles, ReplaceProfile
from callboard.actors.identity.users import RegisterUser
from callboard.actors.infrastructure.notification_kinds import DIGEST
from callboard.actors.infrastructure.principals import Role
from callboard.ops.embedded.mail_catcher import Catcher
from callboard.runtime import Props, Ref, System, pool, supervisor


@pytest.fixture
async def profiles(domain: Domain) -> AsyncIterator[Ref[GetProfile | ReplaceProfile]]:
    made = pool("profiles", Props(Profiles, domain.database), size=1)
    async with System(supervisor("profiles only", made)):
        yield made


async def test_a_user_reads_mails_in_the_language_of_the_registration_until_the_profile_says_another(
    post: Post, domain: Domain, catcher: Catcher, profiles: Ref[GetProfile | ReplaceProfile]
) -> None:
    user = await domain.users.ask(
        RegisterUser("ada@example.org", PASSWORD, "Ada", terms_accepted=True, languages=("es", "de-AT", "en"))
    )
    await post.send(await verification(post, domain, user.user_id))
    profile = await profiles.ask(GetProfile(user.user_id))
    assert profile.languages == ["es", "de-AT", "en"]
    await profiles.ask(ReplaceProfile(user.user_id, None, None, {}))
    await post.send(await post.queue(TemplatedEmailRequested("password_changed", user.user_id)))
    await profiles.ask(ReplaceProfile(user.user_id, None, None, {}, languages=["fr"]))
    await post.send(await post.queue(TemplatedEmailRequested("password_changed", user.user_id)))
    await profiles.ask(ReplaceProfile(user.user_id, None, None, {}, languages=[]))
    await post.send(await post.queue(TemplatedEmailRequested("password_changed", user.user_id)))
    assert [mail.subject for mail in reversed(catcher.mails())] == [
        "Bestätigen Sie Ihre E-Mail-Adresse",
        "Ihr Passwort wurde geändert",
        "Votre mot de passe a été changé",
        "Your password was changed",
    ]


async def test_a_mail_says_its_language_and_a_producers_none(domain: Domain) -> None:
    async with misbehaving(domain) as (post, script):
        user = await domain.person()
        await domain.execute("insert into user_profiles (user_id, languages) select user_id, '{de}' from users")
        await post.send(await post.queue(TemplatedEmailRequested("password_changed", user.user_id)))
        await post.send(await post.ready())
        ours, producers = (email.message_from_bytes(body, policy=email.policy.SMTP) for body in script.bodies)
    assert (ours["Content-Language"], producers["Content-Language"]) == ("de", None)


# The link that stops mails --------------------------------------------------------------------------------------------


async def sent_about_an_article(domain: Domain, post: Post, script: Any) -> tuple[UUID, Any]:
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    article = await domain.published(author, editor)
    step = await domain.value("select max(transition_id) from content_transitions")
    data = {"content_id": str(article.content_id), "transition_id": str(step)}
    await post.send(await post.queue(TemplatedEmailRequested("content_published", author.user_id, data)))
    return author.user_id, email.message_from_bytes(script.bodies[-1], policy=email.policy.SMTP)


async def test_a_mail_that_may_be_stopped_says_how_and_by_one_click_over_https_alone(domain: Domain) -> None:
    async with misbehaving(domain) as (post, script):
        user_id, mail = await sent_about_an_article(domain, post, script)
        link = mail["List-Unsubscribe"].strip("<>")
        assert link.startswith(f"{URL}/notifications/unsubscribe?token=")
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert post.writer.links.read(link.partition("token=")[2]) == (user_id, "content_published")
        post.writer.links._url = "http://board.example/unsubscribe?token="
        _, mail = await sent_about_an_article(domain, post, script)
        assert mail["List-Unsubscribe"].startswith("<http://")
        assert mail["List-Unsubscribe-Post"] is None


async def test_no_security_mail_and_no_producers_mail_can_be_stopped(domain: Domain) -> None:
    async with misbehaving(domain) as (post, script):
        user_id = await domain.registered()
        await post.send(await verification(post, domain, user_id))
        await post.send(await post.queue(TemplatedEmailRequested("password_changed", user_id)))
        await post.send(await post.ready())
        assert len(script.bodies) == 3
        assert not any(b"List-Unsubscribe" in body for body in script.bodies)


async def test_the_link_of_a_single_notification_ends_its_kind_and_that_of_a_digest_all(domain: Domain) -> None:
    ada = await domain.person()
    insert = (
        "insert into notifications (notification_id, user_id, seq, kind, digest_id, data) "
        """select id, $2, $3, 'content_rejected', $1, '{"title": "T"}' from unnest($4::uuid[]) id"""
    )
    single, digest = uuid4(), uuid4()
    await domain.rows(insert, single, ada.user_id, 1, [single])
    await domain.rows(insert, digest, ada.user_id, 2, [uuid4()])
    async with misbehaving(domain) as (post, script):
        for each in (single, digest):
            data = {"digest_id": str(each)}
            await post.send(await post.queue(TemplatedEmailRequested("notification_digest", ada.user_id, data)))
        mails = [email.message_from_bytes(body, policy=email.policy.SMTP) for body in script.bodies]
        links = [mail["List-Unsubscribe"].strip("<>").partition("token=")[2] for mail in mails]
        assert [post.writer.links.read(link)[1] for link in links] == ["content_rejected", DIGEST]


async def test_a_digest_is_in_the_language_of_its_reader(domain: Domain) -> None:
    ada, digest = await domain.person(), uuid4()
    await domain.execute("insert into user_profiles (user_id, languages) select user_id, '{es,de-AT}' from users")
    await domain.rows(
        "insert into notifications (notification_id, user_id, seq, kind, digest_id, data) "
        """values (gen_random_uuid(), $2, 1, 'content_published', $1, '{"title": "Boote"}')""",
        digest,
        ada.user_id,
    )
    async with misbehaving(domain) as (post, script):
        data = {"digest_id": str(digest)}
        await post.send(await post.queue(TemplatedEmailRequested("notification_digest", ada.user_id, data)))
    mail = email.message_from_bytes(script.bodies[0], policy=email.policy.SMTP)
    assert (mail["Content-Language"], mail["Subject"]) == ("de", "»Boote« ist veröffentlicht.")

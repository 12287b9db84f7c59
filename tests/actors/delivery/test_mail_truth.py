"""What a mail says: read from PostgreSQL, sent only to whom it concerns, and never the words of a stranger."""

import email
from uuid import UUID, uuid4

from kit.domain import Domain
from kit.mail_post import Post, misbehaving, verification

from callboard.actors.delivery.events import TemplatedEmailRequested
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.infrastructure.principals import Role
from callboard.actors.infrastructure.token_signer import fingerprint
from callboard.ops.embedded.mail_catcher import Catcher

# The truth ----------------------------------------------------------------------------------------------------------


async def told_of(domain: Domain, content_id: UUID) -> dict[str, str]:
    """What an event says of the last step in an article's history."""
    query = "select max(transition_id) from content_transitions where content_id = $1"
    return {"content_id": str(content_id), "transition_id": str(await domain.value(query, content_id))}


async def test_a_mail_about_an_article_says_what_the_database_says_and_not_the_event(
    post: Post, domain: Domain, catcher: Catcher
) -> None:
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    article = await domain.draft(author, "The true title")
    await domain.move(article.content_id, Action.SUBMIT_FOR_REVIEW, author)
    await domain.move(article.content_id, Action.REJECT, editor, "The true note")
    told = await told_of(domain, article.content_id)
    await post.send(await post.queue(TemplatedEmailRequested("content_rejected", author.user_id, told)))
    (caught,) = catcher.mails()
    assert (caught.to, caught.subject) == (author.email, "Sent back: The true title")
    assert "The true note" in caught.text
    forged = await post.queue(TemplatedEmailRequested("content_rejected", author.user_id, told | {"note": "Pay here"}))
    another = await post.queue(TemplatedEmailRequested("content_rejected", editor.user_id, told))
    for mail_id in (forged, another):
        await post.send(mail_id)
        assert (await post.row(mail_id))["status"] == "dead"
    assert len(catcher.mails()) == 1


async def test_a_title_that_looks_like_an_encoded_header_stays_a_title(
    post: Post, domain: Domain, catcher: Catcher
) -> None:
    title = "=?utf-8?q?=0aX-Injected:_yes=0aContent-Type:_text/html=0a=0a<b>pay</b>?="
    author, editor = await domain.person(), await domain.person(Role.EDITOR)
    article = await domain.published(author, editor, title)
    told = await told_of(domain, article.content_id)
    await post.send(await post.queue(TemplatedEmailRequested("content_published", author.user_id, told)))
    await post.send(await post.ready(subject=title))
    assert [mail.subject for mail in reversed(catcher.mails())] == [f"Published: {title}", title]
    for file in catcher._folder.glob("*.eml"):
        assert b"X-Injected" not in file.read_bytes().partition(b"\r\n\r\n")[0]


async def test_a_name_is_sent_only_to_an_address_that_its_owner_has_proved(
    post: Post, domain: Domain, catcher: Catcher
) -> None:
    bait = "Visit evil.example now \u202eexe"
    user_id = await domain.registered("victim@example.org")
    await domain.rows("update users set full_name = $1", bait)
    await post.send(await verification(post, domain, user_id))
    await domain.answered("reset_password", "victim@example.org")
    token_id = await domain.value("select token_id from mail_tokens where purpose = 'reset_password'")
    await post.send(await post.queue(TemplatedEmailRequested("reset_password", user_id, {"token_id": str(token_id)})))
    assert len(catcher.mails()) == 2
    for mail in catcher.mails():
        assert "evil" not in f"{mail.subject} {mail.text} {mail.html}"
    await domain.execute("update users set is_verified = true")
    await post.send(await post.queue(TemplatedEmailRequested("password_changed", user_id)))
    assert catcher.mails()[0].text.startswith("Hello Visit evil.example now exe,")


async def test_the_name_of_an_account_is_not_sent_to_a_new_address_before_it_is_proved(
    post: Post, domain: Domain, catcher: Catcher
) -> None:
    thief = await domain.person(email="thief@example.org")
    token_id = uuid4()
    await domain.rows(
        "insert into mail_tokens (token_id, user_id, purpose, token_hash, email, expires_at) "
        "values ($1, $2, 'change_email', $3, 'victim@example.org', now() + interval '1 h')",
        token_id,
        thief.user_id,
        fingerprint(domain.signer.mail_token(token_id)),
    )
    await domain.execute("update users set full_name = 'Visit evil.example now'")
    await post.send(
        await post.queue(TemplatedEmailRequested("change_email", thief.user_id, {"token_id": str(token_id)}))
    )
    (caught,) = catcher.mails()
    assert caught.to == "victim@example.org"
    assert "evil" not in f"{caught.text} {caught.html}"


async def test_an_address_of_another_script_is_sent_to_with_its_domain_as_a_labels(domain: Domain) -> None:
    async with misbehaving(domain) as (post, script):
        await post.send(await post.ready("ada@b\u00fccher.example"))
        assert "RCPT TO:<ada@xn--bcher-kva.example>" in script.commands
        assert email.message_from_bytes(script.bodies[0])["To"] == "<ada@xn--bcher-kva.example>"
        mail_id = await post.ready("j\u00fcrgen@example.org")
        await post.send(mail_id)
        row = await post.row(mail_id)
        assert row["status"] == "dead"
        assert "SMTPUTF8" in row["error"]

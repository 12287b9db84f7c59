"""Exports: everything of one user and nothing of another's, made once, kept for a day, given to who has the link."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from domain import PASSWORD, Domain, at_once, refused

from callboard.actors import exports
from callboard.actors.access import Identity, Role
from callboard.actors.errors import AUTH_MAIL_TOKEN_INVALID, USERS_NOT_FOUND
from callboard.actors.exports import Exporter, Exports, FetchExport, MakeExports, RequestExport
from callboard.actors.janitor import CleanUp, Janitor
from callboard.actors.logins import LogIn
from callboard.actors.users import DeleteUser
from callboard.runtime import Ref, System, pool, supervisor


class Makers:
    """The actors of exports, and one that has nothing to do but what a test asks of it."""

    def __init__(self, domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exports, "LOOK_EVERY_S", 3600.0)
        self.exports: Ref[RequestExport | FetchExport] = pool(
            "exports", Exports, domain.database, domain.signer, size=16
        )
        self.exporter: Ref[MakeExports] = pool("exporter", Exporter, domain.database, size=4)


@pytest.fixture
async def makers(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Makers]:
    made = Makers(domain, monkeypatch)
    async with System(supervisor("exports only", made.exports, made.exporter)):  # type: ignore[arg-type]
        yield made


async def author(domain: Domain, email: str) -> Identity:
    who = await domain.person(email=email)
    await domain.rows("insert into user_profiles (user_id, bio) values ($1, $2)", who.user_id, f"bio of {email}")
    return who


async def token_of(domain: Domain) -> str:
    """The secret of the link, as the mail sender derives it."""
    (letter,) = [v for _, _, v in await domain.events("letter.requested") if v["letter"] == "export"]
    return domain.signer.mail_token(UUID(letter["data"]["token_id"]))


def read(archive: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: json.loads(opened.read(name)) for name in opened.namelist()}


async def test_an_archive_has_all_of_its_user_and_nothing_of_another(domain: Domain, makers: Makers) -> None:
    ada, eve = await author(domain, "ada@example.org"), await author(domain, "eve@example.org")
    editor = await domain.person(Role.EDITOR)
    login = await domain.logins.ask(LogIn("ada@example.org", PASSWORD, "Ada's telephone", "203.0.113.7"))
    written = [(await domain.draft(ada, f"Ada {n}")).content_id for n in range(2 * exports.PAGE + 1)]
    published = await domain.published(ada, editor, "Ada's published")
    await domain.draft(eve, "Eve's")
    await makers.exports.ask(RequestExport(ada.user_id))
    assert await makers.exporter.ask(MakeExports()) == 1
    archive = await makers.exports.ask(FetchExport(await token_of(domain)))
    files = read(archive)
    assert set(files) == {"account.json", "profile.json", "sessions.json", "content.json"}
    assert files["account.json"]["email"] == "ada@example.org"
    assert files["profile.json"]["bio"] == "bio of ada@example.org"
    assert [session["device"] for session in files["sessions.json"]] == ["Ada's telephone"]
    articles = {UUID(each["content_id"]): each for each in files["content.json"]}
    assert set(articles) == {*written, published.content_id}
    history = [step["action"] for step in articles[published.content_id]["history"]]
    assert history == ["submit_for_review", "approve", "publish"]
    whole = json.dumps(files)
    for secret in ("eve", "Eve", "password_hash", "argon2", login.refresh_token):
        assert secret not in whole


async def test_of_sixteen_who_ask_at_once_one_archive_is_made(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    for made in range(1, 9):
        won, lost = await at_once(*(makers.exports.ask(RequestExport(ada.user_id)) for _ in range(16)))
        assert lost == []
        assert len({export.export_id for export in won}) == 1
        assert sum(await asyncio.gather(*(makers.exporter.ask(MakeExports()) for _ in range(4)))) == 1
        assert len(await domain.events("letter.requested")) == made


async def test_another_archive_takes_the_place_of_the_one_before(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    first = await makers.exports.ask(RequestExport(ada.user_id))
    await makers.exporter.ask(MakeExports())
    token = await token_of(domain)
    assert len(await makers.exports.ask(FetchExport(token)))
    second = await makers.exports.ask(RequestExport(ada.user_id))
    assert second.export_id != first.export_id
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await makers.exports.ask(FetchExport(token))
    assert await domain.value("select count(*) from exports") == 1


@pytest.mark.parametrize(
    "spoil",
    [
        "update mail_tokens set expires_at = now()",
        "update mail_tokens set purpose = 'reset_password'",
        "update users set deleted_at = now()",
        "update exports set status = 'failed', archive = null",
    ],
)
async def test_a_link_that_is_old_or_for_something_else_or_of_who_is_gone_gives_nothing(
    domain: Domain, makers: Makers, spoil: str
) -> None:
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    await makers.exporter.ask(MakeExports())
    token = await token_of(domain)
    assert await makers.exports.ask(FetchExport(token))
    await domain.execute(spoil)
    for each in (token, "", str(uuid4())):
        with refused(AUTH_MAIL_TOKEN_INVALID):
            await makers.exports.ask(FetchExport(each))


async def test_an_archive_is_kept_a_day_from_when_it_is_ready_and_thrown_away_then(
    domain: Domain, makers: Makers
) -> None:
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.pass_time(timedelta(hours=20).total_seconds())
    await makers.exporter.ask(MakeExports())
    token = await token_of(domain)
    await domain.pass_time(timedelta(hours=23).total_seconds())
    assert await makers.exports.ask(FetchExport(token))
    await domain.pass_time(timedelta(hours=1).total_seconds())
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await makers.exports.ask(FetchExport(token))
    await Janitor(domain.database).clean_up(CleanUp())
    assert await domain.value("select count(*) from exports") == 0


async def test_one_whose_maker_died_is_made_when_the_claim_lapses_and_given_up_after_three(
    domain: Domain, makers: Makers
) -> None:
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    async with domain.database.acquire() as connection:
        assert await exports.QUERIES.claim_export(connection, lease_s=60)  # and then it died
        assert await exports.QUERIES.claim_export(connection, lease_s=60) is None
    assert await makers.exporter.ask(MakeExports()) == 0
    await domain.execute("update exports set due_at = now()")
    assert await makers.exporter.ask(MakeExports()) == 1
    assert await makers.exports.ask(FetchExport(await token_of(domain)))
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.execute("update exports set attempts = 3")
    await makers.exporter.ask(MakeExports())
    assert await domain.value("select status from exports") == "failed"


async def test_an_archive_over_its_bound_is_given_up_and_its_user_told(
    domain: Domain, makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MAX_ARCHIVE_BYTES", 1000)
    monkeypatch.setattr(exports, "PAGE", 1)
    ada = await author(domain, "ada@example.org")
    for _ in range(12):  # the compressor keeps some tens of kilobytes to itself
        await domain.draft(ada, "Long", "".join(str(uuid4()) for _ in range(300)))
    await makers.exports.ask(RequestExport(ada.user_id))
    await makers.exporter.ask(MakeExports())
    assert await domain.value("select status from exports") == "failed"
    assert [value["letter"] for _, _, value in await domain.events("letter.requested")] == ["export_failed"]


async def test_who_is_deleted_meanwhile_gets_none_and_may_ask_for_none(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    await makers.exporter.ask(MakeExports())
    token = await token_of(domain)
    await domain.users.ask(DeleteUser(ada.user_id))
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await makers.exports.ask(FetchExport(token))
    with refused(USERS_NOT_FOUND):
        await makers.exports.ask(RequestExport(ada.user_id))

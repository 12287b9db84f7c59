"""Exports: everything of one user and nothing of another's, made once, kept for a day, given to who has the link."""

import asyncio
import io
import json
import random
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.audited import actions
from kit.domain import PASSWORD, Domain, at_once, refused

from callboard.actors.identity import data_export
from callboard.actors.identity.authentication import LogIn
from callboard.actors.identity.data_export import EXPORTS_PER_HOUR, DownloadExport, Exports, ReadPiece, RequestExport
from callboard.actors.identity.email_verification import QUERIES
from callboard.actors.identity.errors import AUTH_MAIL_TOKEN_INVALID, USERS_NOT_FOUND
from callboard.actors.identity.users import DeleteUser
from callboard.actors.infrastructure.errors import JOBS_NOT_FOUND, QUOTA_RATE
from callboard.actors.infrastructure.job_counts import JobCounts
from callboard.actors.infrastructure.job_sweeper import JobSweeper, Sweep
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.user_jobs import CancelUserJob, GetUserJob, RetryUserJob
from callboard.ops.departments import OURS, declared_by
from callboard.runtime import Props, Ref, System, pool, supervisor


class Makers:
    """The actors of exports."""

    def __init__(self, domain: Domain) -> None:
        self.exports: Ref[RequestExport | DownloadExport | ReadPiece] = pool(
            "exports", Props(Exports, domain.database, domain.signer, domain.jobs), size=16
        )

    async def fetched(self, user_id: UUID, token: str) -> bytes:
        """The archive of a link."""
        archive = await self.exports.ask(DownloadExport(user_id, token))
        pieces = [await self.exports.ask(ReadPiece(archive.export_id, number)) for number in range(archive.pieces)]
        assert sum(map(len, pieces)) == archive.size
        return b"".join(pieces)


@pytest.fixture
async def makers(domain: Domain) -> AsyncIterator[Makers]:
    made = Makers(domain)
    async with System(supervisor("exports only", made.exports)):  # type: ignore[arg-type]
        yield made


async def author(domain: Domain, email: str) -> Principal:
    who = await domain.person(email=email)
    await domain.rows("insert into user_profiles (user_id, bio) values ($1, $2)", who.user_id, f"bio of {email}")
    return who


async def token_of(domain: Domain, *, last: bool = False) -> str:
    """The secret of the link, as the mail sender derives it."""
    found = [v for _, _, v in await domain.events("letter.requested") if v["letter"] == "export"]
    (letter,) = found[-1:] if last else found
    return domain.signer.mail_token(UUID(letter["data"]["token_id"]))


def read(archive: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: json.loads(opened.read(name)) for name in opened.namelist()}


async def test_an_archive_has_all_of_its_user_and_nothing_of_another(domain: Domain, makers: Makers) -> None:
    ada, eve = await author(domain, "ada@example.org"), await author(domain, "eve@example.org")
    editor = await domain.person(Role.EDITOR)
    login = await domain.logins.ask(LogIn("ada@example.org", PASSWORD, "Ada's telephone", "203.0.113.7"))
    written = [(await domain.draft(ada, f"Ada {n}")).content_id for n in range(2 * data_export.PAGE + 1)]
    published = await domain.published(ada, editor, "Ada's published")
    await domain.draft(eve, "Eve's")
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    archive = await makers.fetched(ada.user_id, await token_of(domain))
    files = read(archive)
    assert set(files) == {f"{part.name}.json" for part in declared_by(OURS).personal_data}
    assert files["account.json"][0]["email"] == "ada@example.org"
    assert files["profile.json"][0]["bio"] == "bio of ada@example.org"
    assert [session["device"] for session in files["sessions.json"]] == ["Ada's telephone"]
    articles = {UUID(each["content_id"]): each for each in files["content.json"]}
    assert set(articles) == {*written, published.content_id}
    history = [step["action"] for step in articles[published.content_id]["history"]]
    assert history == ["submit_for_review", "approve", "publish"]
    whole = json.dumps(files)
    for secret in ("eve@", "Eve's", "password_hash", "argon2", login.refresh_token):
        assert secret not in whole


async def test_an_export_is_a_job_of_its_user_with_its_progress(domain: Domain, makers: Makers) -> None:
    ada, eve = await author(domain, "ada@example.org"), await author(domain, "eve@example.org")
    export = await makers.exports.ask(RequestExport(ada.user_id))
    waiting = await domain.user_jobs.ask(GetUserJob(export.export_id, ada))
    assert (waiting.kind, waiting.state, waiting.total) == ("export", "waiting", None)
    await domain.work()
    done = await domain.user_jobs.ask(GetUserJob(export.export_id, ada))
    assert (done.state, done.done, done.total) == ("done", done.total, len(declared_by(OURS).personal_data))
    with refused(JOBS_NOT_FOUND):
        await domain.user_jobs.ask(GetUserJob(export.export_id, eve))
    assert [value["state"] for _, _, value in await domain.events("job.changed")] == ["waiting", "done"]


async def test_an_export_that_is_cancelled_is_not_made_and_another_may_be_requested(
    domain: Domain, makers: Makers
) -> None:
    ada = await author(domain, "ada@example.org")
    first = await makers.exports.ask(RequestExport(ada.user_id))
    await domain.user_jobs.ask(CancelUserJob(first.export_id, ada))
    await domain.work()
    assert await domain.events("letter.requested") == []
    assert await domain.value("select count(*) from export_pieces") == 0
    second = await makers.exports.ask(RequestExport(ada.user_id))
    assert second.export_id != first.export_id
    await domain.user_jobs.ask(RetryUserJob(first.export_id, ada))  # its place is taken
    await domain.work()
    assert [value["letter"] for _, _, value in await domain.events("letter.requested")] == ["export"]
    overtaken = await domain.user_jobs.ask(GetUserJob(first.export_id, ada))
    assert (overtaken.state, overtaken.error) == ("failed", "There is a newer export.")


async def test_an_export_that_is_cancelled_while_it_is_made_is_never_ready(
    domain: Domain, makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await author(domain, "ada@example.org")
    export = await makers.exports.ask(RequestExport(ada.user_id))
    end = data_export._end_export

    async def end_late(*arguments: Any) -> None:
        await domain.user_jobs.ask(CancelUserJob(export.export_id, ada))
        await end(*arguments)

    monkeypatch.setattr(data_export, "_end_export", end_late)
    await domain.work()
    assert (await domain.user_jobs.ask(GetUserJob(export.export_id, ada))).state == "cancelled"
    assert await domain.value("select count(*) from exports where status = 'ready'") == 0
    assert await domain.events("letter.requested") == []


async def test_an_export_that_failed_is_made_when_it_is_retried(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    domain.max_archive_bytes = 1000
    export = await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    assert (await domain.user_jobs.ask(GetUserJob(export.export_id, ada))).error == "The archive is too large."
    domain.max_archive_bytes = 10**9
    await domain.user_jobs.ask(RetryUserJob(export.export_id, ada))
    await domain.work()
    assert read(await makers.fetched(ada.user_id, await token_of(domain, last=True)))["account.json"]


async def test_of_sixteen_who_ask_at_once_one_archive_is_made(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    for made in range(1, EXPORTS_PER_HOUR + 1):
        won, lost = await at_once(*(makers.exports.ask(RequestExport(ada.user_id)) for _ in range(16)))
        assert lost == []
        assert len({export.export_id for export in won}) == 1
        await asyncio.gather(*(domain.work() for _ in range(3)))
        assert len(await domain.events("letter.requested")) == made


async def test_another_archive_takes_the_place_of_the_one_before(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    first = await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    token = await token_of(domain)
    second = await makers.exports.ask(RequestExport(ada.user_id))
    assert second.export_id != first.export_id
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await makers.exports.ask(DownloadExport(ada.user_id, token))
    assert await domain.value("select count(*) from exports") == 1


@pytest.mark.parametrize(
    "spoil",
    [
        "update mail_tokens set expires_at = now()",
        "update mail_tokens set purpose = 'reset_password'",
        "update users set deleted_at = now()",
        "update exports set status = 'failed', size = null, pieces = null",
    ],
)
async def test_a_link_that_is_old_or_for_something_else_or_of_who_is_gone_gives_nothing(
    domain: Domain, makers: Makers, spoil: str
) -> None:
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    token = await token_of(domain)
    await domain.execute(spoil)
    for each in (token, "", str(uuid4())):
        with refused(AUTH_MAIL_TOKEN_INVALID):
            await makers.exports.ask(DownloadExport(ada.user_id, each))


async def test_an_archive_is_kept_a_day_from_when_it_is_ready_and_thrown_away_then(
    domain: Domain, makers: Makers
) -> None:
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.pass_time(timedelta(hours=20).total_seconds())
    await domain.work()
    token = await token_of(domain)
    await domain.pass_time(timedelta(hours=23).total_seconds())
    await domain.clean_up()
    assert await domain.value("select count(*) from exports") == 1
    await domain.pass_time(timedelta(hours=1).total_seconds())
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await makers.exports.ask(DownloadExport(ada.user_id, token))
    async with domain.database.acquire() as connection:
        assert await QUERIES.purge_tokens(connection, limit=10) == 1
    assert await domain.value("select count(*) from exports") == 0


async def test_one_whose_maker_dies_three_times_is_given_up_and_its_user_told(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    sweeper = JobSweeper(domain.database, domain.jobs, [data_export.MAKE_EXPORT], JobCounts())
    for attempt in (1, 2, 3):
        await domain.rows(
            "update jobs set state = 'running', attempts = $1, lease_id = nextval('job_leases'), "
            "lease_until = now() - interval '1 second'",
            attempt,
        )
        await sweeper.sweep(Sweep())
    assert await domain.value("select count(*) from dead_jobs") == 1
    assert await domain.value("select status from exports") == "failed"
    assert [value["letter"] for _, _, value in await domain.events("letter.requested")] == ["export_failed"]


async def test_what_is_counted_is_not_uncounted_by_asking_anew(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    for _ in range(EXPORTS_PER_HOUR):
        await makers.exports.ask(RequestExport(ada.user_id))
        await domain.work()
    with refused(QUOTA_RATE):
        await makers.exports.ask(RequestExport(ada.user_id))
    assert await makers.exports.ask(
        DownloadExport(ada.user_id, await token_of(domain, last=True))
    )  # the last one is still there


async def test_an_archive_over_its_bound_is_given_up_and_its_user_told(domain: Domain, makers: Makers) -> None:
    domain.max_archive_bytes = 1000
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    assert await domain.value("select status from exports") == "failed"
    assert await domain.value("select count(*) from export_pieces") == 0
    assert [value["letter"] for _, _, value in await domain.events("letter.requested")] == ["export_failed"]


async def test_an_archive_of_any_size_is_made_and_given_in_pieces_of_a_megabyte(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    chance = random.Random(7)  # noqa: S311 - words that do not compress
    for number in range(14):
        await domain.draft(
            ada, f"Long {number}", "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=200_000))
        )
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    sizes = await domain.rows("select octet_length(piece) as size from export_pieces order by number")
    assert [each["size"] for each in sizes[:-1]] == [data_export.PIECE_BYTES] * (len(sizes) - 1)
    assert len(sizes) > 1
    files = read(await makers.fetched(ada.user_id, await token_of(domain)))
    assert {each["title"] for each in files["content.json"]} == {f"Long {number}" for number in range(14)}


async def test_an_attempt_that_another_has_overtaken_writes_no_more_and_leaves_nothing(
    domain: Domain, makers: Makers
) -> None:
    ada = await author(domain, "ada@example.org")
    export = await makers.exports.ask(RequestExport(ada.user_id))
    slow, quick = (data_export._Pieces(domain.database, export.export_id, 10**9) for _ in "12")
    assert await slow.begin()
    slow.write(b"x" * 3 * data_export.PIECE_BYTES)
    await slow.store()
    assert await quick.begin()
    slow.write(b"x" * data_export.PIECE_BYTES)
    with pytest.raises(data_export.SupersededError):
        await slow.store()
    await domain.work()
    files = read(await makers.fetched(ada.user_id, await token_of(domain)))
    assert files["account.json"][0]["email"] == "ada@example.org"
    assert await domain.value("select count(*) from export_pieces") == 1
    assert not await quick.begin()


async def test_who_is_deleted_meanwhile_gets_none_and_may_ask_for_none(domain: Domain, makers: Makers) -> None:
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    token = await token_of(domain)
    await domain.users.ask(DeleteUser(ada.user_id))
    with refused(AUTH_MAIL_TOKEN_INVALID):
        await makers.exports.ask(DownloadExport(ada.user_id, token))
    with refused(USERS_NOT_FOUND):
        await makers.exports.ask(RequestExport(ada.user_id))


async def test_a_link_gives_its_archive_once_to_its_owner_and_to_nobody_else(domain: Domain, makers: Makers) -> None:
    ada, eve = await author(domain, "ada@example.org"), await author(domain, "eve@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    token = await token_of(domain)
    for _ in range(3):
        with refused(AUTH_MAIL_TOKEN_INVALID):
            await makers.exports.ask(DownloadExport(eve.user_id, token))
    won, lost = await at_once(*(makers.exports.ask(DownloadExport(ada.user_id, token)) for _ in range(16)))
    assert len(won) == 1
    assert set(lost) == {AUTH_MAIL_TOKEN_INVALID}
    assert await actions(domain, user_id=ada.user_id) == ["export.requested", "export.downloaded"]


async def test_an_archive_that_was_lost_may_be_asked_for_anew_and_the_old_one_is_thrown_away(
    domain: Domain, makers: Makers
) -> None:
    ada = await author(domain, "ada@example.org")
    await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    await makers.exports.ask(DownloadExport(ada.user_id, await token_of(domain)))
    await domain.execute("update mail_tokens set used_at = used_at - interval '121 minutes'")
    await domain.clean_up()
    assert await domain.value("select count(*) from exports") == 0
    again = await makers.exports.ask(RequestExport(ada.user_id))
    await domain.work()
    assert await makers.exports.ask(DownloadExport(ada.user_id, domain.signer.mail_token(again.export_id)))


async def test_exports_are_counted_though_nothing_is_left_of_them(domain: Domain, makers: Makers) -> None:
    ada, eve = await author(domain, "ada@example.org"), await author(domain, "eve@example.org")
    for _ in range(EXPORTS_PER_HOUR):
        await makers.exports.ask(RequestExport(ada.user_id))
        await domain.execute("delete from mail_tokens")
    with refused(QUOTA_RATE) as caught:
        await makers.exports.ask(RequestExport(ada.user_id))
    assert 0 < (caught.value.retry_after_s or 0) <= 2 * 3600
    await makers.exports.ask(RequestExport(eve.user_id))

"""Indexes: every foreign key has one, and no list or search reads more of a table than its page needs."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from kit.domain import Domain

from callboard.actors.editorial import content_search
from callboard.actors.editorial.comment_queries import ListComments, ListReplies
from callboard.actors.editorial.content_queries import LAST_ID, LATEST, ListContent
from callboard.actors.editorial.content_search import Search, SearchContent
from callboard.actors.editorial.search_question import parse
from callboard.actors.editorial.workflow_rules import Status
from callboard.actors.identity import user_lists
from callboard.actors.identity.users import ListUsers
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.actors.infrastructure.redis import RedisClient
from callboard.ops import schema
from callboard.ops.embedded.postgres import Postgres

ROWS = 6_000  # of each table; a page has 20 of them
GONE = 1_000  # comments of a thread that follow one another, and are deleted; and the next, which are hidden
PAGE = 21
AGO = 6  # years; every hundredth article is older by these
FIRST = datetime(1, 1, 1, tzinfo=UTC)

UNINDEXED = """
    select conrelid::regclass::text || '.' || string_agg(attname, ', ' order by place) as columns
    from pg_constraint cross join lateral unnest(conkey) with ordinality as key (number, place)
    join pg_attribute on attrelid = conrelid and attnum = number
    where contype = 'f' and connamespace = 'public'::regnamespace and not exists (
        select from pg_index
        where indrelid = conrelid and indisvalid
          and (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey
          and (indpred is null or pg_get_expr(indpred, indrelid) = '(' || attname || ' IS NOT NULL)'))
    group by pg_constraint.oid, conrelid
"""


async def test_every_foreign_key_has_an_index(domain: Domain) -> None:
    """Without one, deleting a row of the other table reads the whole of this one."""
    assert await domain.value("select count(*) from pg_constraint where contype = 'f'") > 10
    assert [row["columns"] for row in await domain.rows(UNINDEXED)] == []


async def test_a_foreign_key_without_an_index_would_be_seen(domain: Domain) -> None:
    async with domain.database.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("drop index comments_author_idx; drop index content_editor_idx")
        found = {row["columns"] for row in await connection.fetch(UNINDEXED)}
        await transaction.rollback()
    assert found == {"comments.author_id", "content.last_edited_by"}


@pytest.fixture(scope="module")
async def filled_database(postgres: Postgres) -> AsyncIterator[Database]:
    """A moderately filled database with statistics: one for all tests here, since none changes it."""
    server = await asyncpg.connect(postgres.url)
    await server.execute("create database filled template template0")
    url = postgres.url.rpartition("/")[0] + "/filled"
    await schema.install(url)
    connection = await asyncpg.connect(url)
    await connection.execute(FILL)
    await connection.execute("vacuum analyze users, content, content_tags, tag_counts, categories, comments")
    await connection.close()
    database = Database(url)
    await database.connect()
    yield database
    database.disconnect()
    await server.execute("drop database filled with (force)")
    await server.close()


@pytest.fixture
async def filled(filled_database: Database, cache: RedisClient) -> AsyncIterator[Domain]:
    domain = Domain(filled_database, cache)
    async with domain.playing():
        yield domain


FILL = f"""
    insert into users (email, password_hash, full_name, role, is_verified, is_active, created_at)
    select 'person' || n || '@example.org', 'x', 'Person ' || n, case when n % 500 = 0 then 'admin' else 'member' end,
           n % 400 <> 0, n % 300 <> 0, now() - make_interval(mins => n)
    from generate_series(1, {ROWS}) as n;
    insert into categories (slug, name) select 'c' || n, 'C' || n from generate_series(1, 900) as n;
    alter table content disable trigger content_search;
    insert into content (author_id, category_id, title, body, body_html, tags, status, published_at, created_at)
    select u.user_id, c.category_id, 'Lantern ' || n, 'common word', '', array['all', 'tag ' || n % 7],
           (array['draft', 'pending_review', 'approved', 'archived', 'published', 'published'])[1 + n % 6],
           now() - make_interval(years => {AGO} * (n % 100 = 0)::integer, mins => n), now() - make_interval(mins => n)
    from generate_series(1, {ROWS}) as n
    join (select user_id, row_number() over () as place from users) as u on u.place = 1 + n % 40
    join (select category_id, row_number() over () as place from categories) as c on c.place = 1 + n % 50;
    update content set search = search_vector('english', 'Lantern', 'common word', null) where status = 'published';
    alter table content enable trigger content_search;
    update content set title = 'Unicorn' where content_id = (
        select content_id from content where status = 'published' order by published_at limit 1);
    insert into comments (content_id, author_id, body, body_html, created_at, deleted_at, hidden_at)
    select content_id, user_id, 'c', 'c', now() - make_interval(mins => n),
           case when n / {GONE} = 1 then now() end, case when n / {GONE} = 2 then now() end
    from (select content_id from content where title = 'Unicorn') as c, generate_series(1, {ROWS}) as n
    join (select user_id, row_number() over () as place from users) as u on u.place = n % 3 + 1;
    insert into comments (content_id, author_id, body, body_html, parent_id, depth, created_at, deleted_at, hidden_at)
    select content_id, user_id, 'r', 'r', comment_id, 1, now() - make_interval(mins => n),
           case when n / {GONE} = 1 then now() end, case when n / {GONE} = 2 then now() end
    from (select * from comments order by created_at limit 1) as c, generate_series(1, {ROWS}) as n
    join (select user_id, row_number() over () as place from users) as u on u.place = n % 3 + 1;
"""  # noqa: S608 - our own numbers


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def read(plan: dict[str, Any]) -> list[tuple[str, float]]:
    """The tables that an executed plan reads, by index or not, with the rows that it looks at in each."""
    counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return [
        (
            f"{node['Node Type']} {node.get('Index Name') or node['Relation Name']}",
            node["Actual Loops"] * sum(node.get(each, 0) for each in counted),
        )
        for node in nodes(plan)
        if "Relation Name" in node
    ]


async def explained(domain: Domain, ask: Awaitable[Any]) -> list[list[tuple[str, float]]]:
    """What each query of the block reads."""
    acquire = domain.database.acquire
    said: list[tuple[str, Any]] = []

    @asynccontextmanager
    async def listening() -> AsyncIterator[Any]:
        async with acquire() as connection:
            with connection.query_logger(lambda record: said.append((record.query, record.args))):
                yield connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(domain.database, "acquire", listening)
        await ask
    plans: list[list[tuple[str, float]]] = []
    for query, arguments in said:
        if "from " in query:
            async with domain.database.transaction() as connection:
                if "search" in query or "ilike" in query:
                    await content_search.QUERIES.plan_search(connection)
                text = await connection.fetchval(f"explain (analyze, format json) {query}", *arguments)
            plans.append(read(json.loads(text)[0]["Plan"]))
    return plans


def least(plans: list[list[tuple[str, float]]]) -> float:
    """The most rows that any node has looked at."""
    return max((rows for plan in plans for _, rows in plan), default=0)


LISTS: list[dict[str, Any]] = [
    {},
    {"category_id": ...},
    {"author_id": ...},
    {"author_id": ..., "category_id": ...},
    *({"status": status} for status in Status),
    {"status": Status.DRAFT, "category_id": ...},
    {"status": Status.DRAFT, "author_id": ...},
    {"tag": "all"},
    {"tag": "tag 3"},
    {"tag": "nothing"},
    {"tag": "all", "category_id": ...},
    {"tag": "all", "category_id": ..., "status": Status.PUBLISHED},
    {"tag": "all", "author_id": ...},
    {"category_slug": "c7"},
    {"before": datetime.now(UTC) - timedelta(minutes=ROWS // 2), "before_id": UUID(int=0)},
]


@pytest.mark.parametrize("viewer", [None, Role.MEMBER, Role.EDITOR])
async def test_a_list_of_content_reads_its_page_and_no_more(filled: Domain, viewer: Role | None) -> None:
    some = {"category_id": await filled.value("select category_id from content limit 1")}
    some["author_id"] = await filled.value("select author_id from content where category_id = $1", some["category_id"])
    caller = viewer and Principal(some["author_id"], uuid4(), "who@example.org", viewer)
    for filters in LISTS:
        asked = {name: some[name] if value is ... else value for name, value in filters.items()}
        plans = await explained(filled, filled.content_queries.ask(ListContent(caller, PAGE, **asked)))
        assert least(plans) <= 5 * PAGE, (filters, plans)


@pytest.mark.parametrize("viewer", [None, Role.MEMBER, Role.EDITOR])
async def test_a_list_of_comments_reads_its_page_and_no_more(filled: Domain, viewer: Role | None) -> None:
    """The pages before and after what is deleted and hidden, and the first; of comments, and of the replies of one."""
    row = (await filled.rows("select * from comments order by created_at limit 1"))[0]
    caller = viewer and Principal(row["author_id"], uuid4(), "who@example.org", viewer)
    later, earlier = (datetime.now(UTC) - timedelta(minutes=minutes) for minutes in (GONE - 5, 3 * GONE + 5))
    asked = [
        *(ListComments(row["content_id"], caller, PAGE, at, UUID(int=0), False) for at in (FIRST, earlier)),
        *(ListComments(row["content_id"], caller, PAGE, at, LAST_ID, True) for at in (LATEST, later)),
        *(ListReplies(row["comment_id"], caller, PAGE, at, UUID(int=0)) for at in (FIRST, earlier)),
    ]
    for message in asked:
        plans = await explained(filled, filled.comment_queries.ask(message))
        assert least(plans) <= 3 * PAGE, (message, plans)


ACCOUNTS: list[dict[str, Any]] = [
    {},
    {"email": "PERSON7@example.org"},
    {"role": Role.ADMIN},
    {"role": Role.MEMBER},
    {"is_active": False},
    {"is_active": True},
    {"is_verified": False},
    {"is_verified": True},
    {"role": Role.MEMBER, "is_active": True, "is_verified": True},
    {"created_after": datetime.now(UTC) - timedelta(minutes=50)},
    {"before": datetime.now(UTC) - timedelta(minutes=ROWS // 2), "before_id": UUID(int=0)},
]


@pytest.mark.parametrize("filters", ACCOUNTS, ids=range(len(ACCOUNTS)))
async def test_a_list_of_accounts_reads_its_page_and_no_more(filled: Domain, filters: dict[str, Any]) -> None:
    plans = await explained(filled, filled.users.ask(ListUsers(PAGE, **filters)))
    assert least(plans) <= 3 * PAGE, plans


@pytest.mark.parametrize("q", ["person", "Person 599", "7@", "a", "%", "nobody"])
async def test_a_search_of_accounts_reads_a_bounded_number_and_finds_what_there_is(
    filled: Domain, q: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_lists, "WINDOW", 200)
    monkeypatch.setattr(user_lists, "RARE", 100)
    plans = await explained(filled, filled.users.ask(ListUsers(PAGE, q=q)))
    assert least(plans) <= 200 + PAGE, plans
    found = [user.email for user in await filled.users.ask(ListUsers(PAGE, q=q))]
    rows = await filled.rows(
        "select email, full_name from users where deleted_at is null order by created_at desc, user_id desc"
    )
    matching = [row["email"] for row in rows if q.lower() in f"{row['full_name']} {row['email']}".lower()]
    if len(q) < 3:
        matching = [email for email in matching if int(email[6:-12]) <= 200]
    assert found == matching[:PAGE]


async def test_pages_of_a_search_of_accounts_hold_every_match_once(
    filled: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near ones, rare ones, and those that are read in order since they are too many to sort."""
    monkeypatch.setattr(user_lists, "WINDOW", 50)
    monkeypatch.setattr(user_lists, "RARE", 100)
    for q, count in (("person 59", 111), ("person 1", 1111), ("5999@", 1)):
        seen: list[str] = []
        position: dict[str, Any] = {}
        while page := await filled.users.ask(ListUsers(100, q=q, **position)):
            seen += [user.email for user in page]
            position = {"before": page[-1].created_at, "before_id": page[-1].user_id}
        assert len(seen) == len(set(seen)) == count


@pytest.mark.parametrize("enough", [50, 500])
@pytest.mark.parametrize("q", ["common", "lantern", '"word common"', "common -nothing", "lantern or common"])
async def test_a_search_of_a_common_word_reads_a_bounded_number(
    filled: Domain, q: str, enough: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All published articles hold the words; each node of the plan reads as many as the bounds say."""
    for name, bound in (("RECENT", 100), ("ENOUGH", enough), ("LATEST", 200), ("EXAMINED", 200), ("CANDIDATES", 50)):
        monkeypatch.setattr(content_search, name, bound)
    plans = await explained(filled, filled.content_search.ask(SearchContent(q, PAGE)))
    assert least(plans) <= 201, plans
    found = await filled.content_search.ask(SearchContent(q, 100))
    assert len(found) == (0 if q.startswith('"') else 50)


@pytest.mark.parametrize("days", [30, 2000])
async def test_a_search_within_a_month_asks_the_index_for_that_month(
    filled: Domain, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All articles hold the word, and few are of that month. Of longer times a bounded number of matches is read."""
    for name, bound in (("RECENT", 10), ("ENOUGH", 1000), ("LATEST", 300), ("EXAMINED", 300)):
        monkeypatch.setattr(content_search, name, bound)
    until = datetime.now(UTC) - timedelta(days=365 * AGO)
    asked = SearchContent("common", 100, since=until - timedelta(days=days), until=until + timedelta(days=1))
    old = "select count(*) from content where status = 'published' and published_at < now() - interval '5 years'"
    expected = await filled.value(old)
    plans = await explained(filled, filled.content_search.ask(asked))
    assert 0 < expected < 100
    if days == 30:
        assert least(plans) <= 100, plans
        assert len(await filled.content_search.ask(asked)) == expected
    else:
        assert least(plans) <= 301, plans


ROWS_READ = "select idx_tup_fetch + seq_tup_read from pg_stat_xact_user_tables where relname = 'content'"


async def test_a_search_within_times_passes_over_no_article_after_them(
    filled: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is run: a plan that is made once for all searches reads every newer article before the first."""
    for name, bound in (("RECENT", 10), ("ENOUGH", 1000), ("LATEST", 300), ("EXAMINED", 300)):
        monkeypatch.setattr(content_search, name, bound)
    asked = SearchContent('"common"', PAGE, until=datetime.now(UTC) - timedelta(days=365 * AGO - 1))
    async with filled.database.transaction(content_search.PLANNING) as connection:
        before = await connection.fetchval(ROWS_READ)
        assert await Search(connection, parse(asked.q), asked).ranks(tolerant=False)
        assert await connection.fetchval(ROWS_READ) - before <= 10 + 300 + PAGE


async def test_a_purge_reads_what_is_due_and_no_more(filled: Domain) -> None:
    """A table of each rule holds many rows of which none is due."""
    purges = [rule for rule in filled.rules if rule.name not in ("audit_log", "deleted_users")]
    said: list[tuple[str, Any]] = []
    connection = await asyncpg.connect(filled.database.server.url)
    async with connection.transaction():
        await connection.execute(NOT_DUE)
        for rule in purges:
            with connection.query_logger(lambda record: said.append((record.query, record.args))):
                await rule.purge(connection, 10)
                await asyncio.sleep(0)  # the record comes in the next turn of the loop
            query, arguments = next(each for each in reversed(said) if "delete from" in each[0])
            text = await connection.fetchval(f"explain (analyze, format json) {query}", *arguments)
            assert least([read(json.loads(text)[0]["Plan"])]) <= 15, (rule.name, text)
        await connection.execute("rollback; begin")
    await connection.close()


NOT_DUE = """
    create temporary table few as select user_id from users limit 1500;
    insert into mail_tokens (user_id, purpose, token_hash, expires_at)
    select user_id, case when place % 2 = 0 then 'export' else 'reset_password' end, sha256(place::text::bytea),
           now() + make_interval(mins => place::int)
    from (select user_id, row_number() over () as place from few) as u;
    insert into sessions (user_id, expires_at) select user_id, now() + interval '1 day' from few;
    insert into refresh_tokens (refresh_hash, session_id, spent_at, child_hash)
    select sha256(session_id::text::bytea), session_id, now(), 'x' from sessions;
    insert into mails (mail_id, recipient, letter, status, expires_at)
    select gen_random_uuid(), 'a@example.org', 'verify_email', 'sent', now() from few;
    insert into idempotency_keys (name, fingerprint, new_id, claim_id, lapses_at, expires_at)
    select sha256(user_id::text::bytea), 'x', user_id, user_id, now(), now() + interval '1 day' from few;
    insert into dead_letters (fingerprint, consumer, topic, partition, "offset", reason, detail)
    select sha256(user_id::text::bytea), 'c', 't', 0, row_number() over (), 'invalid', '' from few;
    insert into dead_jobs (job_id, kind, version, priority, attempts, postponed, max_attempts, unique_active, payload,
                           reason, error, created_at)
    select row_number() over (), 'mail', 1, 1, 1, 0, 1, false, '{}', '', '', now() from few;
    insert into finished_jobs (job_id, kind, outcome, attempts, created_at, keep_until)
    select row_number() over (), 'mail', 'done', 1, now(), now() + interval '1 day' from few;
    insert into known_networks (user_id, network) select user_id, '10.0.0.0/24' from few;
    analyze mail_tokens, sessions, refresh_tokens, mails, idempotency_keys, dead_letters, dead_jobs, finished_jobs,
            known_networks, users;
"""


async def test_a_rare_word_is_found_in_the_oldest_article(filled: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, bound in (("RECENT", 10), ("ENOUGH", 10), ("CANDIDATES", 50)):
        monkeypatch.setattr(content_search, name, bound)
    assert [hit.title for hit in await filled.content_search.ask(SearchContent("unicorns", PAGE))] == ["Unicorn"]

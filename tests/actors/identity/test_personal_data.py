"""Personal data: no column that may hold any is forgotten, and a person who is erased is found nowhere any more."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from kit.audited import From, actions, request
from kit.domain import PASSWORD, Domain, refused

from callboard.actors.delivery.mail_queue import QUERIES
from callboard.actors.editorial.content_queries import ListTransitions
from callboard.actors.editorial.workflow import Draft, EditContent
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.identity.authentication import LogIn
from callboard.actors.identity.erasure import erase_due, erase_user
from callboard.actors.identity.errors import AUTH_INVALID_CREDENTIALS
from callboard.actors.identity.users import DeleteUser, UpdateUser
from callboard.actors.infrastructure.feature_flags import FlagName
from callboard.actors.infrastructure.principals import Principal, Role
from callboard.ops.departments import OURS, declared_by

PERSONAL_DATA = declared_by(OURS).personal_data
COVERED = {
    f"{table}.{column}" for part in PERSONAL_DATA for table, columns in part.covers.items() for column in columns
}
STATS = {"subject_id": "what a producer counts by: its own opaque id", "metric": "a name"}
# Columns of types that may hold anything, and the reason why these hold nothing of a person.
FREE = {
    "aggregated_stats": STATS,
    "live_stats": STATS,
    "user_jobs": {"kind": "one of a list", "state": "one of a list"},
    "user_job_inputs": {"form": "one of a list", "job_id": "a job's"},
    "stat_metrics": {"metric": "a name", "source": "a program's"},
    "uploads": dict.fromkeys(("upload_id", "object_id", "parts", "kind"), "ids, and one of a list"),
    "discarded_objects": {"object_id": "an object's"},
    "alembic_version": {"version_num": "a revision"},
    "audit_log": {"action": "one of a list", "actor": "one of a list", "trace_id": "names a request"},
    "categories": dict.fromkeys(("slug", "name", "category_id", "description"), "a category's"),
    "comment_counts": {"content_id": "an article's"},
    "comment_moderations": {"comment_id": "a comment's", "action": "one of a list"},
    "comment_reports": {"comment_id": "a comment's", "reason": "one of a list"},
    "comments": {"comment_id": "its own key", "content_id": "an article's", "parent_id": "a comment's"},
    "consumed_events": {"consumer": "a name", "source": "a program's", "event_id": "an event's"},
    "content": {
        "content_id": "its own key",
        "category_id": "a category's",
        **dict.fromkeys(("status", "language"), "one of a list"),
    },
    "content_revisions": {"content_id": "an article's", "category_id": "a category's", "language": "one of a list"},
    "content_tags": {"content_id": "an article's", "category_id": "a category's", "status": "one of a list"},
    "content_transitions": {
        "content_id": "an article's",
        **dict.fromkeys(("action", "from_status", "to_status"), "one of a list"),
    },
    "dead_letters": {
        "dead_letter_id": "its own key",
        "fingerprint": "a hash",
        **dict.fromkeys(("consumer", "topic", "reason"), "a name"),
    },
    "export_pieces": {"export_id": "an export's"},
    "exports": {"status": "one of a list", "maker": "names an attempt"},
    "feature_flag_overrides": {"name": "a flag's"},
    "feature_flags": {"name": "a flag's"},
    "idempotency_keys": {
        **dict.fromkeys(("name", "fingerprint"), "a keyed hash"),
        **dict.fromkeys(("new_id", "claim_id"), "an id"),
        **dict.fromkeys(("headers", "body"), "gone within 24 hours"),
    },
    "jobs": dict.fromkeys(
        ("kind", "state", "worker", "unique_key", "order_key", "progress", "last_error", "payload", "traceparent"),
        "ids and not contents, until the job has ended",
    ),
    "dead_jobs": dict.fromkeys(
        ("kind", "unique_key", "order_key", "payload", "progress", "reason", "error", "traceparent"),
        "ids and not contents, for 30 days",
    ),
    "finished_jobs": dict.fromkeys(("kind", "outcome"), "one of a list"),
    "job_kinds": {"kind": "one of a list"},
    "schedules": dict.fromkeys(("name", "kind", "payload", "cron", "zone", "missed"), "of our own making"),
    "leases": {"name": "a name", "holder": "a process"},
    "mail_producer_usage": {"source": "a program's name"},
    "mail_tokens": {"token_id": "its own key", "purpose": "one of a list", "session_id": "a session's key"},
    "mails": {
        "mail_id": "its own key",
        "relay": "a server of ours",
        **dict.fromkeys(("letter", "status"), "one of a list"),
    },
    "notifications": {"notification_id": "its own key", "kind": "one of a list"},
    "outbox": {
        **dict.fromkeys(("event_id", "topic", "type", "traceparent", "error", "source", "ce_id"), "an event's"),
        **dict.fromkeys(("key", "value"), "gone within a week of being published"),
    },
    "producer_keys": {
        "key_id": "its own key",
        "secret_hash": "a hash",
        **dict.fromkeys(("name", "types", "sources"), "a program's"),
    },
    "search_languages": {"language": "one of a list"},
    "search_words": dict.fromkeys(("word", "lexeme", "language"), "of published articles; purged when none has it"),
    "sessions": {"session_id": "its own key"},
    "sitemap_pages": {"first_id": "an article's"},
    "subscriptions": {"subscription_id": "its own key", "status": "one of a list"},
    "user_rates": {"user_id": "a deleted user's id says nothing", "name": "one of a list"},
    "user_usage": {"user_id": "a deleted user's id says nothing"},
    "users": {"user_id": "what is published refers to it", "role": "one of a list"},
}
TYPES = (
    *("text", "character varying", "jsonb", "json", "bytea", "inet", "cidr", "uuid", "tsvector"),
    "USER-DEFINED",
    "ARRAY",
)


async def test_every_column_that_may_hold_personal_data_is_erased_or_said_to_hold_none(domain: Domain) -> None:
    rows = await domain.rows(
        "select table_name, column_name from information_schema.columns join information_schema.tables "
        "using (table_schema, table_name) "
        "where table_schema = 'public' and table_type = 'BASE TABLE' and data_type = any($1)",
        list(TYPES),
    )
    columns = {f"{row['table_name']}.{row['column_name']}" for row in rows}
    free = {f"{table}.{column}" for table, names in FREE.items() for column in names}
    assert columns - COVERED - free == set(), "cover these by a PersonalData, or say why they hold none"
    assert COVERED & free == set()
    assert COVERED - columns == set()


def test_every_file_of_an_archive_has_a_name_of_its_own() -> None:
    assert len({part.name for part in PERSONAL_DATA}) == len(PERSONAL_DATA)


async def person(domain: Domain, mark: str) -> Principal:
    """Somebody with something in every table, and a mark in all of it."""
    email, ip = f"{mark}@example.org", "203.0.113.77"
    caller = await domain.person(email=email)
    editor, reader = await domain.person(Role.EDITOR), await domain.person()
    await domain.rows(
        "update users set full_name = $2, registered_from = '203.0.113.77' where user_id = $1",
        caller.user_id,
        f"Name {mark}",
    )
    await domain.rows(
        "insert into user_profiles (user_id, bio, avatar_url, preferences) "
        "values ($1, $2, $3, jsonb_build_object('x', $2::text))",
        caller.user_id,
        f"Bio {mark}",
        f"https://example.org/{mark}.png",
    )
    await domain.person(Role.ADMIN)
    with request(From(ip, f"Agent {mark}", caller)):
        await domain.logins.ask(LogIn(email, PASSWORD, f"Device {mark}", ip))
        await domain.users.ask(UpdateUser(caller.user_id, f"Name {mark}", f"new-{mark}@example.org"))
    await domain.rows(  # a typing error of their own, as it looks
        "insert into audit_log (action, actor, user_id, ip, user_agent) "
        "values ('login.failed', 'anonymous', $1, $2, $3)",
        caller.user_id,
        ip,
        f"Agent {mark}",
    )
    draft = await domain.draft(caller, f"Draft {mark}")
    await domain.content.ask(EditContent(draft.content_id, Draft("Later", f"Later {mark}"), draft.version, caller))
    published = await domain.published(caller, editor, "A published article")
    other = await domain.draft(reader)
    for writer, title in ((caller, f"Correction {mark}"), (reader, "A correction of that")):  # as an editor once
        version = await domain.value("select version from content where content_id = $1", other.content_id)
        role = Role.EDITOR if writer is caller else Role.MEMBER
        editing = msgspec.structs.replace(writer, role=role)
        await domain.content.ask(EditContent(other.content_id, Draft(title, "b"), version, editing))
    await domain.rows(
        "insert into content_transitions (content_id, actor_id, action, from_status, to_status, note) "
        "values ($1, $2, 'reject', 'pending_review', 'draft', $3)",
        other.content_id,
        caller.user_id,
        f"Note {mark}",
    )
    for body, deleted_at in ((f"Comment {mark}", datetime.now(UTC)), ("A comment", None)):
        await domain.rows(
            "insert into comments (content_id, author_id, body, body_html, deleted_at) values ($1, $2, $3, $3, $4)",
            published.content_id,
            caller.user_id,
            body,
            deleted_at,
        )
    remark = await domain.value(
        "insert into comments (content_id, author_id, body, body_html) values ($1, $2, 'Well', 'Well') "
        "returning comment_id",
        published.content_id,
        reader.user_id,
    )
    await domain.rows(
        "insert into comment_reports (comment_id, reporter_id, reason, note) values ($1, $2, 'spam', $3)",
        remark,
        caller.user_id,
        f"Report {mark}",
    )
    await domain.rows(
        "insert into comment_moderations (comment_id, actor_id, action, reason) values ($1, $2, 'hide', $3)",
        remark,
        caller.user_id,
        f"Reason {mark}",
    )
    await domain.rows(
        "insert into subscriptions (user_id, plan_type, status, ends_at) values ($1, 'gold', 'active', now())",
        caller.user_id,
    )
    await domain.rows("insert into feature_flags (name) values ($1) on conflict do nothing", FlagName.NEW_UI)
    await domain.rows("insert into feature_flag_overrides values ($1, $2, true)", FlagName.NEW_UI, caller.user_id)
    await domain.rows(
        "insert into mails (mail_id, recipient, letter, data, expires_at) values ($1, $2, 'l', '{}', now())",
        uuid4(),
        email.upper(),
    )
    job_id = uuid4()
    await domain.rows(
        "insert into user_jobs (job_id, kind, user_id, error) values ($1, 'import_content', $2, $3)",
        job_id,
        caller.user_id,
        f"Error {mark}",
    )
    await domain.rows("insert into user_job_inputs values ($1, 'jsonl', $2)", job_id, f"Input {mark}".encode())
    await domain.rows(
        "insert into notifications (notification_id, user_id, seq, kind, data) "
        "values (gen_random_uuid(), $1, 1, 'k', jsonb_build_object('title', $2::text))",
        *(caller.user_id, f"Notification {mark}"),
    )
    upload = "insert into uploads (upload_id, user_id, kind, reserved, filename, expires_at) "
    await domain.rows(f"{upload} values ($1, $1, 'whole', 1, $2, now())", caller.user_id, f"File {mark}")
    await domain.rows("insert into content_attachments values ($1, $2)", published.content_id, caller.user_id)
    await domain.rows("insert into avatars values ($1, $1)", caller.user_id)
    await domain.rows("insert into notification_settings (user_id, digest) values ($1, 'daily')", caller.user_id)
    for key in (str(caller.user_id), email):
        await domain.rows(
            'insert into dead_letters (fingerprint, consumer, topic, partition, "offset", key, value, reason, detail) '
            "values ($1, 'c', 't', 0, 0, $2, $3, 'r', $4)",
            *(uuid4().bytes, key.encode(), mark.encode(), mark),
        )
    return caller


async def erased(domain: Domain, days: int, limit: int = 100) -> int:
    """Erase what is due, as retention does."""
    async with domain.database.acquire() as connection:
        return await erase_due(connection, limit, days=days, parts=PERSONAL_DATA)


async def whole_database(domain: Domain) -> dict[str, str]:
    """Every row of every table as text, but for what is gone by itself within a week."""
    tables = await domain.rows(
        "select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE' "
        "and table_name not in ('outbox', 'petitions', 'idempotency_keys')"
    )
    query = "select to_jsonb(t)::text, t::text from {} t"
    return {row["table_name"]: str(await domain.rows(query.format(row["table_name"]))) for row in tables}


async def test_after_an_erasure_nothing_in_the_database_says_who_it_was(domain: Domain) -> None:
    mark = "zanzibarquark"
    ada, _ = await person(domain, mark), await person(domain, "eveningstarling")
    marks = (mark, mark.encode().hex(), "203.0.113.77")
    tables, before = await whole_database(domain), str(await whole_database(domain))
    assert all(each in before for each in marks)
    hers = {name for name, rows in tables.items() if any(x in rows.lower() for x in (*marks[:2], str(ada.user_id)))}
    unnamed = {"exports", "export_pieces", "refresh_tokens", "content_tags", "tag_counts"}  # other tests have these
    assert {each.partition(".")[0] for each in COVERED} - hers <= unnamed, "give `person` a row in these"
    await domain.users.ask(DeleteUser(ada.user_id))
    assert await erased(domain, days=0) == 1
    after = str(await whole_database(domain))
    assert [each for each in marks[:2] if each in after.lower()] == []
    entries = await domain.rows(
        "select * from audit_log where actor_id = $1 or (user_id = $1 and actor = 'anonymous')", ada.user_id
    )
    assert {row["actor"] for row in entries} == {"user", "anonymous"}
    assert {(row["ip"], row["user_agent"]) for row in entries} == {(None, None)}
    assert "user.erased" in await actions(domain, user_id=ada.user_id)
    assert after.count("eveningstarling") == before.count("eveningstarling"), "another's data was touched"


async def test_what_was_published_stays_and_is_by_a_deleted_user(domain: Domain) -> None:
    ada = await person(domain, "zanzibarquark")
    published = await domain.value("select content_id from content where status = 'published'")
    await domain.users.ask(DeleteUser(ada.user_id))
    editor = await domain.person(Role.EDITOR)
    steps = await domain.content_queries.ask(ListTransitions(published, editor, 10))
    assert steps[0].actor_name == "Deleted user"
    await erased(domain, days=0)
    assert await domain.value("select count(*) from content where author_id = $1", ada.user_id) == 1
    assert await domain.value("select count(*) from comments where author_id = $1", ada.user_id) == 1
    assert await domain.value("select full_name from users where user_id = $1", ada.user_id) == "Deleted user"


async def test_an_account_is_erased_when_its_days_are_over_and_a_living_one_never(domain: Domain) -> None:
    living, gone, lately = [await domain.person() for _ in range(3)]
    await domain.rows("update users set deleted_at = now() - interval '31 days' where user_id = $1", gone.user_id)
    await domain.rows("update users set deleted_at = now() - interval '29 days' where user_id = $1", lately.user_id)
    assert await erased(domain, days=30) == 1
    assert await erased(domain, days=30) == 0
    await domain.draft(living)
    async with domain.database.acquire() as connection:
        await erase_user(connection, living.user_id, PERSONAL_DATA)
    assert await domain.value("select count(*) from content") == 1
    left = await domain.rows("select user_id from users where erased_at is null and full_name = 'Some One'")
    assert {row["user_id"] for row in left} == {living.user_id, lately.user_id}


async def test_an_erasure_that_was_cut_off_goes_on_where_it_was(domain: Domain) -> None:
    ada = await person(domain, "zanzibarquark")
    for _ in range(3):
        await domain.draft(ada, "More zanzibarquark")
    await domain.users.ask(DeleteUser(ada.user_id))
    for much in range(1, len(PERSONAL_DATA)):
        await erase_user_in_part(domain, ada.user_id, much)
        assert await domain.value("select erased_at is null from users where user_id = $1", ada.user_id)
    assert await erased(domain, days=0, limit=1) == 1
    assert "zanzibarquark" not in str(await whole_database(domain))


async def erase_user_in_part(domain: Domain, user_id: UUID, much: int) -> None:
    """Erase the first parts only, as a process that is killed does."""
    for part in PERSONAL_DATA[:much]:
        if part.erase is not None:
            async with domain.database.transaction() as connection:
                await part.erase(connection, user_id=user_id, limit=1)


async def test_nobody_logs_in_to_what_has_been_erased_and_its_address_is_free(domain: Domain) -> None:
    ada = await domain.person(email="ada@example.org")
    await domain.users.ask(DeleteUser(ada.user_id))
    await erased(domain, days=0)
    with refused(AUTH_INVALID_CREDENTIALS):
        await domain.logins.ask(LogIn("ada@example.org", PASSWORD, "", None))
    assert await domain.registered("ada@example.org") != ada.user_id


async def test_the_next_owner_of_an_address_keeps_the_mails_that_came_since(domain: Domain) -> None:
    ada = await domain.person(email="ada@example.org")
    await domain.rows(
        "update users set created_at = now() - interval '50 days', deleted_at = now() - interval '40 days' "
        "where user_id = $1",
        ada.user_id,
    )
    await domain.person(email="ada@example.org")
    for age in (45, 0):
        await domain.rows(
            "insert into mails (mail_id, recipient, letter, expires_at, created_at) "
            "values ($1, 'ada@example.org', 'l', now(), now() - $2 * interval '1 day')",
            uuid4(),
            age,
        )
    await erased(domain, days=30)
    assert await domain.value("select array_agg(created_at > now() - interval '1 day') from mails") == [True]


async def test_a_mail_to_an_address_that_is_another_by_now_is_exported_and_erased_with_its_account(
    domain: Domain,
) -> None:
    ada = await domain.person(email="ada@example.org")
    owned = "insert into mails (mail_id, recipient, letter, expires_at, user_id) values ($1, $2, 'l', now(), $3)"
    for owner in (ada.user_id, (await domain.person()).user_id):
        await domain.rows(owned, uuid4(), "ada.before@example.org", owner)
    async with domain.database.acquire() as connection:
        documents = [row async for row in QUERIES.export_mails(connection, user_id=ada.user_id, after=None, limit=9)]
    assert len(documents) == 1
    await domain.rows("update users set deleted_at = now() - interval '40 days' where user_id = $1", ada.user_id)
    await erased(domain, days=30)
    assert await domain.value("select array_agg(user_id = $1) from mails", ada.user_id) == [False]


@pytest.mark.parametrize("limit", [1, 2, 500])
async def test_an_export_has_something_from_every_part_whatever_its_pages(domain: Domain, limit: int) -> None:
    ada = await person(domain, "zanzibarquark")
    await domain.draft(ada, "Another one")
    with request(From("198.51.100.99", "an admin's", await domain.person(Role.ADMIN))):
        await domain.users.ask(UpdateUser(ada.user_id, "Name zanzibarquark", None))
    found: dict[str, list[Any]] = {}
    for part in PERSONAL_DATA:
        after: str | None = None
        documents = found[part.name] = list[Any]()
        while True:
            async with domain.database.acquire() as connection:
                rows = [row async for row in part.export(connection, user_id=ada.user_id, after=after, limit=limit)]
            if not rows:
                break
            documents += [json.loads(row["document"]) for row in rows]
            after = rows[-1]["cursor"]
    assert {name for name, documents in found.items() if not documents} == set()
    assert len(found["content"]) == 3
    assert len(found["transitions"]) == 2
    assert len({json.dumps(each) for each in found["content"]}) == 3
    assert "198.51.100.99" not in json.dumps(found)
    assert Action.SUBMIT_FOR_REVIEW in {each["action"] for each in found["transitions"]}

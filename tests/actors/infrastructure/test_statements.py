"""Statements as metrics and traces name them."""

import pytest

from callboard.actors.infrastructure.statements import MAX_SQL, describe_statement, query_type


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("select 1", "select"),
        ("-- why\n  SELECT user_id from users", "select"),
        ("insert into users values ($1)", "insert"),
        ("with found as (select 1) update users set a = 1", "update"),
        ("with gone as (delete from users returning 1) select count(*) from gone", "delete"),
        ("with a as (select 'delete' as word) select * from a", "select"),
        ("set statement_timeout = 5", "other"),
        ("with due as (select 1 from jobs for update skip locked) select * from due", "select"),
        ("", "other"),
    ],
)
def test_a_statement_is_counted_by_what_it_does(sql: str, kind: str) -> None:
    assert query_type(sql) == kind


@pytest.mark.parametrize(
    ("sql", "operation", "table"),
    [
        ("select 1", "SELECT", ""),
        ("SELECT user_id\n from users where user_id = $1", "SELECT", "users"),
        ("select extract(epoch from now() - created_at) from outbox", "SELECT", "outbox"),
        ("select a is distinct from b from pairs", "SELECT", "pairs"),
        ("select * from unnest($1::text[]) as email", "SELECT", ""),
        ("select x from unnest($1::int[]) n join content on true, (select 1 from tags) t", "SELECT", "tags"),
        ("select 1 from users for no key update", "SELECT", "users"),
        ("insert into outbox (a) values ($1) on conflict (a) do update set b = 2", "INSERT", "outbox"),
        ("update only users u set name = $1 from roles", "UPDATE", "users"),
        ("with due as (select 1 from jobs for update of jobs) update mails set state = 'sent'", "UPDATE", "mails"),
        ("with gone as (delete from tags returning 1) select count(*) from gone", "DELETE", "tags"),
        ("-- from nowhere\ndelete from content", "DELETE", "content"),
        ("BEGIN; select 1 from users", "BEGIN", ""),
        ("set statement_timeout = 1300", "SET", ""),
        ("listen callboard_outbox", "OTHER", ""),
        ("", "OTHER", ""),
    ],
)
def test_a_statement_is_named_by_its_operation_and_its_table(sql: str, operation: str, table: str) -> None:
    assert describe_statement(sql)[:2] == (operation, table)


@pytest.mark.parametrize(
    "sql",
    [
        "select 'ada@example.org'",
        "select 'it''s ada@example.org', 2",
        "select $$ada@example.org$$",
        "delete from jobs where job_id = 4711 and lease_id=4711",
        "set statement_timeout = 4711",
        "select 47.11, 4711e3 -- ada@example.org\n/* ada@example.org */",
    ],
)
def test_the_text_of_a_statement_has_no_value(sql: str) -> None:
    _, _, text = describe_statement(sql)
    assert not any(value in text for value in ("ada", "47", "11"))


def test_parameters_and_names_with_digits_stay() -> None:
    assert describe_statement("select sha256, $1, $2::int4 from t2")[2] == "select sha256, $1, $2::int4 from t2"


def test_a_long_statement_is_cut() -> None:
    assert len(describe_statement("select " + "a, " * 1_000)[2]) == MAX_SQL

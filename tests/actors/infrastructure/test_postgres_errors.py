"""What an error of PostgreSQL means, by its SQLSTATE: a table, and whatever else the server may say."""

import socket
import ssl

import asyncpg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callboard.actors.infrastructure.postgres_errors import Scope, Verdict, judge, judge_connecting, passes, words

PASSING = {
    "25006": Scope.ENDPOINT,  # read-only, after a failover
    "25P03": Scope.CONNECTION,  # ended while idle in a transaction
    "26000": Scope.CONNECTION,  # a pooler has given us another session
    "42P05": Scope.CONNECTION,
    "42501": Scope.STATEMENT,  # a right that was taken away
    "53000": Scope.STATEMENT,
    "53100": Scope.STATEMENT,  # disk full
    "53200": Scope.STATEMENT,
    "53300": Scope.STATEMENT,  # too many connections
    "53400": Scope.STATEMENT,
    "55006": Scope.STATEMENT,
    "55P03": Scope.STATEMENT,  # lock timeout
    "57P01": Scope.SERVER,  # shut down
    "57P02": Scope.SERVER,
    "57P03": Scope.SERVER,  # starting up
    "57P05": Scope.CONNECTION,
    "58000": Scope.STATEMENT,
    "58030": Scope.STATEMENT,  # I/O error
    "08000": Scope.SERVER,
    "08003": Scope.SERVER,
    "08006": Scope.SERVER,
    "08007": Scope.SERVER,
    "08P01": Scope.CONNECTION,
}
OTHERS = {
    "40001": Verdict.CONFLICT,
    "40P01": Verdict.CONFLICT,
    "40003": Verdict.CONFLICT,
    "57014": Verdict.SLOW,
    "25P04": Verdict.SLOW,
    "28000": Verdict.UNMENDABLE,
    "28P01": Verdict.UNMENDABLE,
    "3D000": Verdict.UNMENDABLE,
    "22P02": Verdict.BUG,
    "23505": Verdict.BUG,
    "25P02": Verdict.BUG,
    "40002": Verdict.BUG,
    "42601": Verdict.BUG,
    "42P01": Verdict.BUG,
    "54000": Verdict.BUG,
    "P0001": Verdict.BUG,
    "XX000": Verdict.BUG,
}


def error(state: str, message: str = "no") -> asyncpg.PostgresError:
    raised = asyncpg.PostgresError.new({"C": state, "M": message})
    assert isinstance(raised, asyncpg.PostgresError)
    return raised


@pytest.mark.parametrize(("state", "scope"), PASSING.items(), ids=PASSING)
def test_a_state_that_passes_is_waited_for(state: str, scope: Scope) -> None:
    judgement = judge(error(state))
    assert (judgement.verdict, judgement.scope) == (Verdict.PASSES, scope)
    assert passes(error(state))


@pytest.mark.parametrize(("state", "verdict"), OTHERS.items(), ids=OTHERS)
def test_what_does_not_pass_is_a_lost_race_a_slow_statement_a_refusal_or_a_bug(state: str, verdict: Verdict) -> None:
    assert judge(error(state)).verdict is verdict


@given(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5))
@example("42501")
def test_a_state_that_no_client_knows_is_judged_by_its_class(state: str) -> None:
    """Servers of later years, and forks, have states that asyncpg has no class for."""
    judgement = judge(error(state))
    if state[:2] in ("08", "53", "57", "58"):
        assert judgement.verdict in (Verdict.PASSES, Verdict.SLOW)
    if state[:2] in ("22", "23", "42") and state not in PASSING:
        assert judgement.verdict is Verdict.BUG


def test_a_plan_that_a_migration_made_stale_is_a_lost_race() -> None:
    assert judge(asyncpg.InvalidCachedStatementError("changed")).verdict is Verdict.CONFLICT
    assert judge(asyncpg.OutdatedSchemaCacheError("changed")).verdict is Verdict.CONFLICT


@pytest.mark.parametrize(
    "raised",
    [TimeoutError(), ConnectionRefusedError(), ConnectionResetError(), socket.gaierror(), OSError("no route")],
    ids=lambda raised: type(raised).__name__,
)
def test_a_network_that_fails_passes(raised: Exception) -> None:
    for judged in (judge(raised), judge_connecting(raised)):
        assert (judged.verdict, judged.scope) == (Verdict.PASSES, Scope.SERVER)


@pytest.mark.parametrize(
    "raised",
    [
        error("28P01"),
        error("28000"),
        error("3D000"),
        error("42501"),
        ConnectionError('PostgreSQL server at "db:5432" rejected SSL upgrade'),
        ssl.SSLCertVerificationError(1, "certificate verify failed"),
        asyncpg.ClientConfigurationError("no such file"),
        UnicodeError("label empty or too long"),
    ],
    ids=lambda raised: f"{type(raised).__name__}-{getattr(raised, 'sqlstate', '')}",
)
def test_what_no_waiting_mends_is_told_from_a_server_that_is_away(raised: Exception) -> None:
    assert judge_connecting(raised).verdict is Verdict.UNMENDABLE


def test_the_words_of_an_error_are_one_line_without_its_details() -> None:
    raised = asyncpg.PostgresError.new({"C": "23505", "M": "duplicate\nkey", "D": "Key (email)=(ada@example.org)"})
    assert words(raised) == "UniqueViolationError (23505): duplicate key"
    assert words(TimeoutError()) == "TimeoutError"

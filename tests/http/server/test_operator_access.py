"""The operator plane is asked for by an address, and its token is not guessed."""

import pytest

from callboard.actors.errors import AUTH_TOKEN_INVALID, REQUEST_HOST, REQUEST_LIMITED, Problem
from callboard.http.server.operator_access import WRONG_TOKENS, AllowedHosts, OperatorToken

TOKEN = "a-token-for-operators"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:9000", "[::1]", "[::1]:9000", "10.1.2.3:9000", "localhost", "LOCALHOST:9000"),
        *("localhost.", "ops.example.org", "OPS.example.org.:9000", "[2001:db8::1]", "[::ffff:127.0.0.1]:1"),
    ],
)
def test_addresses_localhost_and_the_names_that_are_given_are_taken(host: str) -> None:
    AllowedHosts(frozenset({"ops.example.org"})).check(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:9000", "127.0.0.1.evil.example", "localhost.evil.example", "evil.localhost"),
        *("127.0.0.1:evil.example", "127.0.0.1:", "127.0.0.1:9000.evil.example", "127.0.0.1:0x2328", "127.0.0.1:+9000"),
        *(
            "evil.example@127.0.0.1",
            "127.0.0.1@evil.example",
            "[evil.example]",
            "[[::1]]",
            "[::1]x:9000",
            "[127.0.0.1]",
        ),
        *("0177.0.0.1", "127.1", "2130706433", "0x7f000001", "127.0.0.256", "::1", "", " ", "127.0.0.1\uff1a9000"),
        *("127.0.0.1:\u0669\u0660", "xops.example.org", "ops.example.orgx", "[fe80::1%25eth0]", "a" * 10_000),
    ],
)
def test_every_other_name_is_refused_however_it_is_dressed(host: str) -> None:
    with pytest.raises(Problem) as caught:
        AllowedHosts(frozenset({"ops.example.org"})).check(host)
    assert caught.value.code is REQUEST_HOST


@pytest.mark.parametrize("origin", ["http://127.0.0.1:9000", "https://127.0.0.1:9000", "HTTP://127.0.0.1:9000"])
def test_a_page_of_this_listener_may_ask(origin: str) -> None:
    AllowedHosts().check_origin(origin, "127.0.0.1:9000")


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "http://127.0.0.1:8000", "http://127.0.0.1", "http://localhost:9000", "null", ""),
        *("127.0.0.1:9000", "http://evil.example@127.0.0.1:9000", "http://127.0.0.1:9000/", "http://127.0.0.1:9000."),
    ],
)
def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    with pytest.raises(Problem) as caught:
        AllowedHosts().check_origin(origin, "127.0.0.1:9000")
    assert caught.value.code is REQUEST_HOST


def tried(gate: OperatorToken, token: str, ip: str = "203.0.113.7") -> str:
    try:
        gate.check(token, ip)
    except Problem as problem:
        return problem.code.name
    return "in"


def test_wrong_tokens_wait_by_address_and_lock_nobody_else_out() -> None:
    now = [0.0]
    gate = OperatorToken(TOKEN, lambda: now[0])
    codes = [tried(gate, f"guess {nth}") for nth in range(50)]
    assert codes == [AUTH_TOKEN_INVALID.name] * WRONG_TOKENS.limit + [REQUEST_LIMITED.name] * 40
    assert tried(gate, TOKEN) == REQUEST_LIMITED.name
    assert tried(gate, TOKEN, "198.51.100.1") == "in"
    now[0] = WRONG_TOKENS.window_s
    assert tried(gate, TOKEN) == "in"


def test_the_right_token_is_never_counted() -> None:
    gate = OperatorToken(TOKEN, lambda: 0.0)
    assert {tried(gate, TOKEN) for _ in range(100)} == {"in"}


def test_guesses_from_one_subscribers_addresses_count_together_and_memory_is_bounded() -> None:
    gate = OperatorToken(TOKEN, lambda: 0.0)
    codes = [tried(gate, "wrong", f"2001:db8::{nth:x}") for nth in range(1, 50)]
    assert codes.count(AUTH_TOKEN_INVALID.name) == WRONG_TOKENS.limit
    for nth in range(20_000):
        tried(gate, "wrong", f"10.{nth >> 8 & 255}.{nth & 255}.1")
    assert len(gate._wrong._arrivals) <= 10_000


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\udcff", "ä" * 1000])
def test_no_other_token_is_taken_whatever_it_holds(token: str) -> None:
    assert tried(OperatorToken(TOKEN), token) == AUTH_TOKEN_INVALID.name

"""Two processes on the same servers: one limit for both, whatever a client claims to be, and one set of flags."""

import http.client
import json
import secrets
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kit.domain import PASSWORD as DOMAIN_PASSWORD
from kit.people import UserFactory
from kit.proxies import fronted, program
from kit.running import PASSWORD, Answer, CallboardProcess, Up, request, until
from kit.twins import ProcessGroup, twins

LIMIT = 20
WITHIN_S = 2.0  # of which the other process may take one second, and the rest is for this machine


@pytest.fixture(scope="module")
def two(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessGroup]:
    """Behind a proxy, which is the test; limits by address that nobody outlives, and none by user to speak of."""
    file: Path = tmp_path_factory.mktemp("tuning") / "tuning.toml"
    file.write_text(f"[limits.default]\nlimit = {LIMIT}\nwindow_s = 3600\n[limits.login]\nlimit = 4\nwindow_s = 3600")
    with twins(up, TRUSTED_PROXIES="127.0.0.0/8, ::1", CALLBOARD_CONFIG=str(file)) as made:
        yield made


def get(site: CallboardProcess, forwarded: str, path: str = "/content", token: str = "") -> Answer:
    return request("GET", site.api + path, token=token, headers={"X-Forwarded-For": forwarded})


def address() -> str:
    """Another subscriber each time."""
    return f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"


def test_two_processes_count_one_limit_exactly(two: ProcessGroup) -> None:
    client = address()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: get(two.sites[n % 2], client), range(3 * LIMIT)))
    assert sorted(answer.status for answer in answers) == [200] * LIMIT + [429] * (2 * LIMIT)
    left = sorted(int(answer.headers["RateLimit"].split("r=")[1].split(";")[0]) for answer in answers)
    assert left == [0] * (2 * LIMIT) + list(range(LIMIT))
    assert all(answer.code == "REQUEST_LIMITED_005" for answer in answers if answer.status == 429)


def test_no_header_that_a_client_writes_gives_it_another_limit(two: ProcessGroup) -> None:
    network = address().removesuffix("::1")
    claims = [
        "",
        "unknown,",
        "127.0.0.1,",
        "::1, 127.0.0.1,",
        "[::1]:80,",
        "garbage;;,",
        "198.51.100.1, 10.0.0.1,",
        ",,",
    ]
    answers = [
        get(two.sites[n % 2], f"{claims[n % len(claims)]}{secrets.token_hex(2)}, {network}::{n:x}")
        for n in range(LIMIT + 10)
    ]
    assert [answer.status for answer in answers] == [200] * LIMIT + [429] * 10


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_behind_a_proxy_of_ours_a_forged_x_forwarded_for_counts_for_nothing(
    two: ProcessGroup, name: str, tmp_path: Path
) -> None:
    if program(name) is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    user = UserFactory(two.environment).person("member")
    ports = [int(site.environment["HTTP_PORT"]) for site in two.sites]
    with fronted(name, tmp_path, [*ports, ports[0]]) as proxy:
        tls = ssl.create_default_context(cafile=str(proxy.authority))
        connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=tls, timeout=30)
        headers = {"Content-Type": "application/json", "Forwarded": "for=203.0.113.9"}
        headers |= {"X-Forwarded-For": "203.0.113.9, 203.0.113.9", "X-Real-IP": "203.0.113.9"}
        body = json.dumps({"email": user.email, "password": DOMAIN_PASSWORD})
        connection.request("POST", "/api/v1/auth/login", body, headers)
        assert connection.getresponse().status == 200
        connection.close()
    entries = "select host(ip) as ip from audit_log where action = 'login.succeeded' and user_id = $1 order by audit_id"
    assert two.sql(entries, user.user_id)[-1]["ip"] == "127.0.0.1"


def test_logins_from_one_address_are_limited_in_both(two: ProcessGroup) -> None:
    client = {"X-Forwarded-For": address()}
    body = {"email": f"{secrets.token_hex(6)}@example.org", "password": "Wrong-Password-1"}
    statuses = [
        request("POST", f"{two.sites[n % 2].api}/auth/login", body=body, headers=client).status for n in range(6)
    ]
    assert statuses == [401] * 4 + [429] * 2


def test_a_flag_that_one_process_sets_is_in_force_in_the_other_within_a_second(two: ProcessGroup) -> None:
    one, other = two.sites
    path, client = "/flags/maintenance_mode", address()
    token = two.admin

    def put(site: CallboardProcess, *, is_on: bool) -> None:
        answer = request("PUT", site.api + path, token=token, body={"is_on": is_on})
        assert (answer.status, answer.data["is_on"]) == (200, is_on)

    put(one, is_on=True)
    try:
        assert get(one, address()).status == 503
        refused = until(
            "maintenance", lambda: found if (found := get(other, address())).status == 503 else None, WITHIN_S
        )
        assert refused.code == "SERVER_MAINTENANCE_007"
        assert int(refused.headers["Retry-After"]) > 0
        assert get(other, client, token=token).status == 200  # admins pass
    finally:
        put(other, is_on=False)
    assert get(other, address()).status == 200
    until("its end", lambda: get(one, address()).status == 200, WITHIN_S)


def test_limits_that_are_not_strict_are_twice_what_they_were(two: ProcessGroup) -> None:
    one, other = two.sites
    token = two.admin
    path = f"{one.api}/flags/rate_limit_strict"
    assert request("GET", path, token=token).data["is_on"]
    assert get(one, address()).headers["RateLimit-Policy"] == f'"default";q={LIMIT};w=3600'
    assert request("PUT", path, token=token, body={"is_on": False}).status == 200
    try:
        doubled = f'"default";q={LIMIT * 2};w=3600'
        assert get(one, address()).headers["RateLimit-Policy"] == doubled
        until("twice", lambda: get(other, address()).headers["RateLimit-Policy"] == doubled, WITHIN_S)
        client = address()
        statuses = [get(two.sites[n % 2], client).status for n in range(LIMIT * 2 + 2)]
        assert statuses == [200] * (LIMIT * 2) + [429] * 2
    finally:
        assert request("PUT", path, token=token, body={"is_on": True}).status == 200


def test_flags_are_for_admins_and_say_what_is_wrong(two: ProcessGroup) -> None:
    one = two.sites[0]
    token = two.admin

    def put(body: object, name: str = "enable_new_ui") -> tuple[int, str]:
        answer = request("PUT", f"{one.api}/flags/{name}", token=token, body=body)
        return answer.status, answer.code

    assert get(one, address(), "/flags/enable_new_ui").status == 401
    assert get(one, address(), "/flags/enable_all", token).code == "FLAGS_NOT_FOUND_001"
    assert put({"is_on": True}, "enable_all") == (404, "FLAGS_NOT_FOUND_001")
    assert put({"is_on": None}) == (400, "REQUEST_INVALID_001")
    assert put({"is_on": 1}) == (400, "REQUEST_INVALID_001")
    assert put({}) == (400, "REQUEST_INVALID_001")
    assert put({"is_on": True, "user_id": "00000000-0000-4000-8000-000000000000"}) == (404, "USERS_NOT_FOUND_002")
    (me,) = two.sql("select user_id from users where email = 'grace@example.org'")
    user_id = str(me["user_id"])
    answer = request("PUT", f"{one.api}/flags/enable_new_ui", token=token, body={"is_on": True, "user_id": user_id})
    shown = {"name": "enable_new_ui", "is_on": False, "overrides": 1, "user_id": user_id, "override": True}
    assert answer.data == shown
    assert get(two.sites[1], address(), f"/flags/enable_new_ui?user_id={user_id}", token).data == shown


def test_unless_told_otherwise_there_are_5_registrations_10_logins_and_100_requests_a_minute(up: Up) -> None:
    usual = dict.fromkeys(("RATE_LIMIT_REGISTER", "RATE_LIMIT_LOGIN", "RATE_LIMIT_PER_MINUTE"), "")
    apart = up.facts["REDIS_URL"].rpartition("/")[0] + "/7"  # from what others have been counted for
    with twins(up, 1, TRUSTED_PROXIES="127.0.0.0/8", REDIS_URL=apart, **usual) as made:
        (site,) = made.sites
        account = {"password": PASSWORD, "full_name": "Ada", "terms_accepted": True}
        login = {"email": "nobody@example.org", "password": PASSWORD}
        tried: tuple[tuple[str, int, int, Callable[[int], object]], ...] = (
            ("register", 5, 201, lambda n: account | {"email": f"ada{n}@example.org"}),
            ("login", 10, 401, lambda n: login | {"email": f"nobody{n}@example.org"}),
        )
        for name, most, status, body in tried:
            client = {"X-Forwarded-For": address()}
            answers = [
                request("POST", f"{site.api}/auth/{name}", body=body(n), headers=client)
                for n in range(most + 2)  # one comes free in 6 or 12 s
            ]
            assert [answer.status for answer in answers[:most]] == [status] * most
            assert 429 in [answer.status for answer in answers[most:]]
            assert f'"{name}";q={most};w=60' in answers[0].headers["RateLimit-Policy"]
            assert '"default";q=100;w=60' in answers[0].headers["RateLimit-Policy"]
            assert (
                request("POST", f"{site.api}/auth/{name}", body=body(99), headers={"X-Forwarded-For": address()}).status
                == status
            )


def test_who_is_logged_in_is_counted_as_one_from_whatever_address(two: ProcessGroup) -> None:
    user = UserFactory(two.environment).person("member")
    answers = [get(two.sites[n % 2], address(), "/users/me", user.token) for n in range(LIMIT + 4)]
    assert [answer.status for answer in answers] == [200] * LIMIT + [429] * 4

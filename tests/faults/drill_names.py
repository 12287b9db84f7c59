"""Drill: the names of servers cannot be resolved, or their lookups hang. Each costs its own server and no other."""

import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.people import UserFactory
from kit.running import Answer, CallboardProcess, Up, one_up, until
from kit.twins import twins

pytestmark = pytest.mark.servers

ANSWERS_S = 2.1  # REQUEST_TIMEOUT_MS, and the client's share
AGAIN_S = 2.0
STOPS_S = 6.0
OUTAGES = 5
# Stands before the C library's: a name that ends in .hang is looked up for half a minute.
LOOKUP = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    size_t length = node ? strlen(node) : 0;
    if (length > 5 && strcmp(node + length - 5, ".hang") == 0) { sleep(30); return EAI_AGAIN; }
    return ((lookup *)dlsym(RTLD_NEXT, "getaddrinfo"))(node, service, hints, found);
}
"""
END_SESSIONS = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
"""


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with one_up() as running:
        yield running


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which lookups may hang."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("there is no C compiler")
    folder: Path = tmp_path_factory.mktemp("lookup")
    (folder / "lookup.c").write_text(LOOKUP)
    library = folder / "lookup.so"
    words = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "lookup.c"), "-ldl"]
    subprocess.run(words, check=True)  # noqa: S603 - a command of ours
    return {"LD_PRELOAD": str(library)}


def elsewhere(zone: str) -> dict[str, str]:
    """Servers other than PostgreSQL, by names of a zone."""
    return {"REDIS_URL": f"redis://redis.{zone}/0", "KAFKA_BROKERS": f"kafka.{zone}:9092", "SMTP_HOST": f"mail.{zone}"}


def timed(site: CallboardProcess, method: str, path: str, token: str = "", body: object = None) -> tuple[float, Answer]:
    began = time.monotonic()
    answer = site.call(method, path, token=token, body=body)
    return time.monotonic() - began, answer


@pytest.mark.parametrize("zone", ["invalid", "hang"])
def test_names_of_other_servers_that_cannot_be_resolved_cost_no_request(
    up: Up, preloaded: dict[str, str], zone: str
) -> None:
    """Nor do they keep the process from PostgreSQL, whose name is looked up anew after each outage."""
    with twins(up, 1) as group:
        people = UserFactory(group.environment)
        named = {"DATABASE_URL": group.environment["DATABASE_URL"].replace("127.0.0.1", "localhost")}
        roles = {"ROLES": "front,workers,streams"}
        site = CallboardProcess("serve", environment=group.environment | elsewhere(zone) | named | roles | preloaded)
        group.sites.append(site)
        until("its door", lambda: is_healthy(site, 200))
        author, statuses, longest_s, again_s = people.person("member"), Counter[int](), 0.0, 0.0
        for number in range(OUTAGES):
            for _ in range(5):
                took_s, answer = timed(site, "POST", "/content", author.token, {"title": f"t{number}", "body": "b"})
                longest_s = max(longest_s, took_s)
                statuses[answer.status] += 1
                site.call("POST", "/auth/password/forgot", body={"email": author.email})  # a mail to be sent
            group.sql(END_SESSIONS)
            began = time.monotonic()
            until("a read", lambda: site.call("GET", "/content").status == 200)
            again_s = max(again_s, time.monotonic() - began)
        began = time.monotonic()
        site.signal(signal.SIGTERM)
        status, stopped_s = site.wait(STOPS_S + 5), time.monotonic() - began
    print(  # noqa: T201 - the measurement
        f"\nnames in .{zone}: {dict(statuses)}, the longest request {longest_s:.2f} s (limit {ANSWERS_S:g}), works "
        f"again {again_s:.2f} s after its sessions were ended (limit {AGAIN_S:g}), stopped in {stopped_s:.2f} s"
    )
    assert status == 0
    assert stopped_s < STOPS_S
    assert statuses.keys() == {201}
    assert longest_s < ANSWERS_S
    assert again_s < AGAIN_S


@pytest.mark.parametrize("zone", ["invalid", "hang"])
def test_without_the_address_of_postgresql_each_request_is_503_in_time(
    up: Up, preloaded: dict[str, str], zone: str
) -> None:
    with twins(up, 1, **preloaded) as group:
        group.sites[0].end()
        url = f"postgresql://ada:secret@db.{zone}/callboard"
        site = CallboardProcess("serve", environment=group.environment | {"DATABASE_URL": url})
        group.sites.append(site)
        until("its door", lambda: is_healthy(site, 503))
        seen = [timed(site, "GET", path) for path in ("/content", "/tags", "/categories") * 3]
        until("its word", lambda: f"db.{zone}" in site.errors)
        said = site.errors
    print(f"\nno address of PostgreSQL, .{zone}: the longest request {max(took for took, _ in seen):.2f} s")  # noqa: T201
    assert {answer.status for _, answer in seen} == {503}
    assert all(answer.headers["Retry-After"] for _, answer in seen)
    assert max(took for took, _ in seen) < ANSWERS_S
    assert "secret" not in said


def is_healthy(site: CallboardProcess, *statuses: int) -> bool:
    """Whether it answers a read so."""
    try:
        return site.call("GET", "/content").status in statuses
    except OSError:
        return False

"""Drill: the connection to PostgreSQL is reset around a COMMIT, goes silent, or carries one byte at a time. Whoever
repeats a request with its Idempotency-Key has one article.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from kit.commit_proxy import AFTER, BEFORE, BYTES, HALF_OPEN, commit_proxy
from kit.people import UserFactory
from kit.running import Answer, CallboardProcess, one_up, request
from kit.twins import ProcessGroup, twins

pytestmark = pytest.mark.servers

ROUNDS = 5
FAULTS = (BEFORE, AFTER, HALF_OPEN, BYTES)
ACKNOWLEDGED_S = 20.0
STORED = "select count(*) as found from content where title = $1"


def post(site: CallboardProcess, token: str, title: str, key: str) -> Answer:
    headers = {"Idempotency-Key": key}
    return request(
        "POST", f"{site.api}/content", token=token, body={"title": title, "body": "b"}, headers=headers, timeout_s=15
    )


class Told:
    """What was answered under each fault, and how long the slowest answer took."""

    def __init__(self) -> None:
        self.statuses = {fault: Counter[int]() for fault in FAULTS}
        self.longest_s = 0.0

    async def repeat(self, site: CallboardProcess, token: str, title: str, fault: str) -> None:
        """Ask with one key until it is acknowledged."""
        status, key, ends_at = 0, secrets.token_hex(16), time.monotonic() + ACKNOWLEDGED_S
        while status != 201:
            assert time.monotonic() < ends_at, self.statuses
            began = time.monotonic()
            status = (await asyncio.to_thread(post, site, token, title, key)).status
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.statuses[fault][status] += 1
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def group() -> Iterator[ProcessGroup]:
    with one_up() as up, twins(up, 1, REQUEST_TIMEOUT_MS="1800") as made:
        yield made


async def test_promise_13_who_repeats_a_request_whose_commit_was_harmed_has_one_article(group: ProcessGroup) -> None:
    told, parts = Told(), urlsplit(group.environment["DATABASE_URL"])
    token = (await asyncio.to_thread(UserFactory(group.environment).person, "member")).token
    async with commit_proxy(parts.hostname or "", parts.port or 0) as proxy:
        url = group.environment["DATABASE_URL"].replace(f":{parts.port}/", f":{proxy.port}/")
        site = await asyncio.to_thread(lambda: group.start(DATABASE_URL=url))
        for fault in FAULTS * ROUNDS:
            title, proxy.fault = f"{fault} {secrets.token_hex(4)}", fault
            await told.repeat(site, token, title, fault)
            proxy.fault = ""
            assert await asyncio.to_thread(group.sql, STORED, title) == [{"found": 1}], fault
    statuses = {fault: dict(seen) for fault, seen in told.statuses.items()}
    print(  # noqa: T201 - the measurement
        f"\npromise 13: {proxy.harmed} commits were harmed, each article is there once; {statuses}; the longest "
        f"request {told.longest_s:.2f} s"
    )
    assert proxy.harmed == ROUNDS * (len(FAULTS) - 1)
    assert {status for seen in told.statuses.values() for status in seen} <= {201, 409, 503}

"""Drills: a server is in a state that passes, and every route is asked. It answers as ever or with 503 and Retry-After,
in time, and as ever within a second of the end of the state.
"""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from kit.drills import CLIENT_S, DEAD
from kit.people import Person
from kit.running import Answer, Up, one_up, request
from kit.server_states import OTHERS_STATES, POSTGRES, REDIS, State, operator
from kit.walk import NAMES, Asking, Walk

pytestmark = pytest.mark.servers

AT_ONCE = 8
ASKED_S = 1.8  # REQUEST_TIMEOUT_MS
HANGS_S = 8.0  # of eight clients at once on two cores
AGAIN_S = 1.0
LIMITS = ("RATE_LIMIT_ACCOUNT", "RATE_LIMIT_ACCOUNT_TOTAL", "RATE_LIMIT_UPLOADS", "RATE_LIMIT_EVENTS")
QUOTAS = ("QUOTA_EXPORTS_PER_HOUR", "QUOTA_UPLOADS_PER_HOUR", "QUOTA_DRAFTS_PER_HOUR", "QUOTA_COMMENTS_PER_HOUR")
ENVIRONMENT = dict.fromkeys((*LIMITS, *QUOTAS), "9999") | {"REQUEST_TIMEOUT_MS": "1800"}
HELLO = b"hello world"
LIVE = "GET /notifications/stream"  # it has begun, and its end is its client's


class Site:
    """A running system, with requests to each of its routes and to what its routes alone do not show."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.walk = Walk(up)
        self.admin = self.walk.people.person("admin")
        self.editor = self.walk.people.person("editor")
        self.file = self._upload(self.admin)
        self.article = self._published()
        self.threads = ThreadPoolExecutor(AT_ONCE)

    def requests(self) -> list[Asking]:
        """Prepare a request to each route, all of them good, and some of their own kind."""
        walk, admin = self.walk, self.admin
        made = [walk.prepare(route, self._asker(name), self._owner(name)) for name, route in NAMES.items()]
        api, site = self.up.api, self.up.api.removesuffix("/api/v1")
        soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        approved = f"{api}/content/{self._approved()}"
        return [
            *made,
            Asking("a download", "GET", self.file + "/file", admin.token),
            Asking("a part of a download", "GET", self.file + "/file", admin.token, None, {"Range": "bytes=1-3"}),
            Asking("a published article", "GET", f"{api}/content/{self.article}"),
            Asking("its comments", "GET", f"{api}/content/{self.article}/comments"),
            Asking("a feed that is known", "GET", site + "/feed.atom", "", None, {"If-None-Match": '"x"'}),
            Asking("a schedule", "PUT", approved + "/schedule", self.editor.token, {"publish_at": soon}),
        ]

    async def ask(self, requests: list[Asking]) -> dict[str, Answer]:
        """Send all of them, some at once."""
        loop = asyncio.get_running_loop()
        answers = [loop.run_in_executor(self.threads, _timed, each) for each in requests]
        return dict(zip([each.name for each in requests], await asyncio.gather(*answers), strict=True))

    def _asker(self, name: str) -> str:
        """Whoever ends a session or an account is somebody new."""
        return self._owner(name).token

    def _owner(self, name: str) -> Person:
        return self.walk.people.person("admin") if name.startswith(("POST /auth", "DELETE")) else self.admin

    def _upload(self, owner: Person) -> str:
        """The address of a file."""
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Length": str(len(HELLO)),
            "Upload-Metadata": f"filename {base64.b64encode(b'hello.txt').decode()}",
            "Content-Type": "application/offset+octet-stream",
        }
        made = request("POST", f"{self.up.api}/uploads", token=owner.token, raw=HELLO, headers=headers)
        assert made.status == 201, made
        return f"{self.up.api}/uploads/{made.headers['Location'].rpartition('/')[2]}"

    def _published(self) -> UUID:
        content_id = self.walk.people.draft(self.walk.people.person("member"))
        publish = "update content set status = 'published', published_at = now() where content_id = $1"
        self.walk.people.execute((publish, content_id))
        return content_id

    def _approved(self) -> UUID:
        content_id = self.walk.people.draft(self.walk.people.person("member"))
        self.walk.people.execute(("update content set status = 'approved' where content_id = $1", content_id))
        return content_id


def _timed(asking: Asking) -> Answer:
    began = time.monotonic()
    answer = asking.send(timeout_s=HANGS_S)
    took_s = time.monotonic() - began
    return Answer(answer.status, answer.body, {**answer.headers, "took": f"{took_s:.3f}"})


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with one_up(ENVIRONMENT) as up:
        yield Site(up)


@pytest.fixture(scope="module")
async def usual(site: Site) -> dict[str, int]:
    """The status of each answer while all is well."""
    answers = await site.ask(await asyncio.to_thread(site.requests))
    assert {answer.status for answer in answers.values()} <= set(range(200, 500)) - {429}, answers
    return {name: answer.status for name, answer in answers.items()}


async def books(up: Up) -> dict[str, Any]:
    """What a state that passes leaves as it was: restarts of actors, and dead letters."""
    restarts = {path: node.get("restarts", 0) for path, node in up.nodes().items() if not path.startswith("servers")}
    async with operator(up) as connection:
        return {**restarts, "dead letters": await connection.fetchval(DEAD)}


def faults(answers: dict[str, Answer], usual: dict[str, int], *, may_refuse: bool) -> dict[str, Any]:
    """The answers that break the promise."""
    found: dict[str, Any] = {}
    for name, answer in answers.items():
        refused = may_refuse and answer.status == 503
        if refused and not answer.headers.get("Retry-After"):
            found[name] = "503 without Retry-After"
        elif not refused and answer.status != usual[name]:
            found[name] = answer.status, usual[name], answer.body
    return found


async def play(site: Site, usual: dict[str, int], name: str, state: State, *, may_refuse: bool) -> None:
    """Ask every route in the state, and again after it."""
    before = await books(site.up)
    requests, after = await asyncio.to_thread(site.requests), await asyncio.to_thread(site.requests)
    async with state(site.up):
        answers = await site.ask(requests)
    ended_at = time.monotonic()
    again_s = await works_again(site, ended_at)
    later = await site.ask(after)
    statuses = Counter(answer.status for answer in answers.values())
    longest_s = max(float(answer.headers["took"]) for answer in answers.values())
    print(  # noqa: T201 - the measurement
        f"\n{name}: {len(answers)} requests, {dict(statuses)}, the longest {longest_s:.2f} s; works again after "
        f"{again_s:.2f} s (limit {AGAIN_S:g})"
    )
    assert faults(answers, usual, may_refuse=may_refuse) == {}
    assert faults(later, usual, may_refuse=False) == {}
    assert longest_s < ASKED_S + AT_ONCE * CLIENT_S
    assert again_s < AGAIN_S
    assert await books(site.up) == before


async def works_again(site: Site, since: float) -> float:
    """The seconds until a write, a read and a download are answered."""
    api, admin, number = site.up.api, site.admin, 0
    while time.monotonic() < since + 20:
        number += 1
        asked = [
            Asking("write", "POST", f"{api}/content", admin.token, {"title": f"again {number}", "body": "b"}),
            Asking("read", "GET", f"{api}/content"),
            Asking("download", "GET", site.file + "/file", admin.token),
        ]
        if all(answer.status < 500 for answer in (await site.ask(asked)).values()):
            break
        await asyncio.sleep(0.02)
    return time.monotonic() - since


@pytest.mark.parametrize("name", POSTGRES)
async def test_promise_21_every_route_is_asked_while_postgresql_cannot_work(
    site: Site, usual: dict[str, int], name: str
) -> None:
    await play(site, usual, name, POSTGRES[name], may_refuse=True)


@pytest.mark.parametrize("name", REDIS)
async def test_every_route_answers_as_ever_while_redis_cannot_work(
    site: Site, usual: dict[str, int], name: str
) -> None:
    await play(site, usual, name, REDIS[name], may_refuse=False)


@pytest.mark.parametrize("name", OTHERS_STATES)
async def test_every_route_is_asked_while_kafka_or_the_uploads_are_away(
    site: Site, usual: dict[str, int], name: str
) -> None:
    await play(site, usual, name, OTHERS_STATES[name], may_refuse="uploads" in name)

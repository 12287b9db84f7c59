"""The oracle: clients note of each write whether it was acknowledged, refused, or unknown, and the data must agree.

Every acknowledged write is there once, no refused one is, and an unknown one at most once.
"""

import asyncio
import re
import secrets
import time
from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

import aiohttp

from kit.running import PASSWORD, Up

RETRY_S = 0.02  # after a refusal
SENDERS = 5  # so many mails can be in flight at once
LETTERS = {"publish": "Published: ", "reject": "Sent back: "}
TO_MAILS = ("content.published", "content.rejected", "notification.requested", "letter.requested")
HURRY = (
    """
    update mails set copied_at = copied_at - interval '1 h'
    where copied_at between $1::timestamptz - interval '1 h' and $1
    """,
    "update jobs set lease_until = now() where state = 'running' and lease_until <= $1::timestamptz + interval '30 s'",
    """
    update jobs set run_at = now()
    where state = 'waiting' and run_at > now() and last_error like 'unknown%' and created_at < $1
    """,
)
PATH = re.compile(r"/content/([0-9a-f-]{36})(/transitions)?$")


class Article:
    """What the clients know of one article: its writes in order, each `(action, outcome, answer)`."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, str, Any]] = []

    def note(self, action: str, outcome: str, answer: Any) -> None:
        self.writes.append((action, outcome, answer))

    def ok(self) -> list[str]:
        return [action for action, outcome, _ in self.writes if outcome == "ok"]

    def possible(self) -> list[list[str]]:
        """The histories that may have come of it: an unknown write may have happened, and no write came after it."""
        unknown = [action for action, outcome, _ in self.writes if outcome == "unknown"]
        assert len(unknown) <= 1
        return [self.ok(), self.ok() + unknown]


class Oracle:
    """Every write that was tried, and what the clients were told of it."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}  # by address
        self.verified: dict[str, str] = {}
        self.titles: dict[str, str] = {}
        self.articles: dict[str, Article] = {}
        self.title_of: dict[str, str] = {}
        self.tokens: dict[str, str] = {}  # the mails' secrets, to their addresses

    def note(self, method: str, path: str, body: Any, status: int | None, data: Any) -> None:
        """Note a write by its request; status None says that no answer came."""
        # A timeout's 503 says that it may have happened, so none of them says that it has not.
        outcome = "unknown" if status is None or status >= 500 else "ok" if 200 <= status < 300 else "fail"
        if path == "/auth/register":
            self.users[body["email"]] = outcome
        elif path == "/auth/verify-email":
            self.verified[self.tokens[body["token"]]] = outcome
        elif (method, path) == ("POST", "/content"):
            self.titles[body["title"]] = outcome
            if outcome == "ok":
                self.title_of[data["content_id"]] = body["title"]
                self.articles[data["content_id"]] = Article()
        elif method != "GET" and (found := PATH.match(path)):
            self.articles[found[1]].note(body.get("action", "edit"), outcome, data)

    def counts(self) -> Counter[str]:
        writes = [*self.users.values(), *self.verified.values(), *self.titles.values()]
        writes += [outcome for article in self.articles.values() for _, outcome, _ in article.writes]
        return Counter(writes)


class Seen(NamedTuple):
    """The answer to a write: when it was asked for and how long that took, in seconds; its status, 0 if it could not be
    sent, None if no answer came; and the code of an error.
    """

    at: float
    took: float
    status: int | None
    code: str = ""


class Client:
    """Makes requests and has the oracle note them. Ends with ConnectionError when the server does."""

    def __init__(self, up: Up, oracle: Oracle, session: aiohttp.ClientSession) -> None:
        self.up = up
        self.oracle = oracle
        self.session = session
        self.seen: list[Seen] = []

    async def write(self, method: str, path: str, body: Any, token: str = "", **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        status, data, code, at = None, None, "", time.monotonic()
        try:
            async with self.session.request(method, self.up.api + path, json=body, headers=sent | headers) as response:
                answer = await response.json()
                data, code = answer.get("data"), answer.get("error", {}).get("code", "")
                status = response.status
        except aiohttp.ClientConnectorError as error:
            status = 0
            raise ConnectionError from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ConnectionError from error
        finally:
            self.oracle.note(method, path, body, status, data)
            self.seen.append(Seen(at, time.monotonic() - at, status, code))
        return status, data

    async def enrol(self) -> None:
        """Registration and verification, again and again."""
        while True:
            email = f"{secrets.token_hex(6)}@example.org"
            body = {"email": email, "password": PASSWORD, "full_name": "Ada Penwright", "terms_accepted": True}
            status, _ = await self.write("POST", "/auth/register", body)
            if status != 201:
                continue
            while email not in self.oracle.tokens.values():
                await self.read_mails()
            token = next(token for token, address in self.oracle.tokens.items() if address == email)
            await self.write("POST", "/auth/verify-email", {"token": token})

    async def read_mails(self) -> None:
        try:
            async with self.session.get(self.up.operators + "/ops/v1/mailbox") as response:
                mails = (await response.json())["data"]
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ConnectionError from error
        for mail in mails:
            if found := re.search(r"\?token=(\S+)", mail["text"]):
                self.oracle.tokens[found[1]] = mail["to"]

    async def edit(self, author: str, editor: str) -> None:
        """An article's whole way, one article after the other."""
        while True:
            title = f"The call {secrets.token_hex(6)}"
            status, content = await self.write("POST", "/content", {"title": title, "body": "first"}, author)
            if status != 201:
                await asyncio.sleep(RETRY_S)
                continue
            await self.bring_out(content, title, author, editor)

    async def bring_out(self, content: Any, title: str, author: str, editor: str) -> None:
        """From draft to published; given up at the first write that is not acknowledged."""
        path = f"/content/{content['content_id']}"
        for who, action in (
            (author, "submit_for_review"),
            (editor, "reject"),
            (author, "edit"),
            (author, "submit_for_review"),
            (editor, "approve"),
            (editor, "publish"),
        ):
            if action == "edit":
                match = {"If-Match": f'"{content["version"]}"'}
                status, content = await self.write("PUT", path, {"title": title, "body": "second"}, who, **match)
            else:
                status, content = await self.write("POST", f"{path}/transitions", {"action": action}, who)
            if status != 200:
                return


OPEN_EVENTS = """
    select count(*) from outbox as o
    where
        published_at is null
        or o.type = any($1) and not exists (
            select from consumed_events as c where c.source = 'callboard' and c.event_id = o.event_id::text
        )
"""
BY_TYPE = OPEN_EVENTS.replace("count(*)", "type, count(*), min(published_at), max(published_at)") + "group by type"
OPEN_MAILS = "select count(*) from mails where status in ('queued', 'sending')"


async def drain_events(connection: Any) -> None:
    """Wait until every event is published, and each that leads to a mail is handled."""
    ends_at = time.monotonic() + 40  # a sweep comes every 10 s
    while left := await connection.fetchval(OPEN_EVENTS, TO_MAILS):
        assert time.monotonic() < ends_at, (left, [dict(row) for row in await connection.fetch(BY_TYPE, TO_MAILS)])
        await asyncio.sleep(0.05)


async def settle(connection: Any, killed_at: datetime) -> None:
    """Wait until every event is handled and every mail sent."""
    ends_at = time.monotonic() + 40
    while True:
        await hurry(connection, killed_at)
        await drain_events(connection)
        if not (left := await connection.fetchval(OPEN_MAILS)):
            break
        assert time.monotonic() < ends_at, f"{left} mails are still open"
        await asyncio.sleep(0.05)
    unsent = await connection.fetch("select status, letter, attempts, copies, error from mails where status <> 'sent'")
    assert not unsent, [dict(row) for row in unsent]


async def hurry(connection: Any, killed_at: datetime) -> None:
    """Let happen now what comes a minute later: the leases lapse, and copies that had no reply are sent again."""
    for statement in HURRY:
        await connection.execute(statement, killed_at)


async def check_accounts(connection: Any, oracle: Oracle) -> None:
    rows = await connection.fetch(
        "select email, is_verified, count(*) over (partition by lower(email)) as n from users where email = any($1)",
        list(oracle.users),
    )
    there = {row["email"]: row for row in rows}
    for email, outcome in oracle.users.items():
        if outcome == "ok":
            assert email in there
        if outcome == "fail":
            assert email not in there
    assert all(row["n"] == 1 for row in rows)
    assert [email for email, said in oracle.verified.items() if said == "ok" and not there[email]["is_verified"]] == []


async def check_articles(connection: Any, oracle: Oracle) -> None:
    rows = await connection.fetch(
        "select content_id, title, status, version, body from content where title = any($1)", list(oracle.titles)
    )
    made = Counter(row["title"] for row in rows)
    by_id = {str(row["content_id"]): row for row in rows}
    for title, outcome in oracle.titles.items():
        if title == "What the call board said":  # the demo's, the same in every play
            continue
        assert made[title] in {"ok": (1,), "fail": (0,), "unknown": (0, 1)}[outcome]
    for content_id, article in oracle.articles.items():
        history = await connection.fetch(
            "select action from content_transitions where content_id = $1 order by transition_id", content_id
        )
        moves = [row["action"] for row in history if row["action"] != "edit"]
        assert moves in [[each for each in one if each != "edit"] for one in article.possible()]
        row = by_id[content_id]
        acknowledged = [answer for _, outcome, answer in article.writes if outcome == "ok"]
        if all(outcome == "ok" for _, outcome, _ in article.writes) and acknowledged:
            assert (row["version"], row["status"], row["body"]) == (
                acknowledged[-1]["version"],
                acknowledged[-1]["status"],
                acknowledged[-1]["body"],
            )
        elif acknowledged:
            assert row["version"] in (acknowledged[-1]["version"], acknowledged[-1]["version"] + 1)


async def owners(connection: Any, oracle: Oracle) -> dict[str, str]:
    """Articles' authors' addresses."""
    query = (
        "select content_id::text, email from content join users on user_id = author_id where content_id::text = any($1)"
    )
    return {row["content_id"]: row["email"] for row in await connection.fetch(query, list(oracle.articles))}


def check_mails(mails: list[Any], oracle: Oracle, authors: dict[str, str]) -> None:
    """One mail for everything acknowledged; a copy more of what was in flight."""
    got = Counter((mail["to"], mail["subject"]) for mail in mails)
    wanted = [(email, "Confirm your email address") for email, outcome in oracle.users.items() if outcome == "ok"]
    for content_id, article in oracle.articles.items():
        title = oracle.title_of[content_id]
        wanted += [(authors[content_id], LETTERS[action] + title) for action in article.ok() if action in LETTERS]
    astray = [(each, got[each]) for each in wanted if not 1 <= got[each] <= 2]
    assert not astray, (astray, got)
    assert sum(got[each] - 1 for each in wanted) <= SENDERS

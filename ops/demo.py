"""The main scenario over real sockets: from a registration to a published article and its readers' statistics.

Each step prints its request, the response and the duration; a failed step ends the demo with a DemoError that names the
expected result.
"""

import asyncio
import re
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
from rich.console import Console

VIEWS = 1000
PATIENCE_S = 15.0  # for streams and mail
POLL_INTERVAL_S = 0.05


class DemoError(Exception):
    """A step had an unexpected result."""


class Target(msgspec.Struct, frozen=True):
    """A running system, and an editor's account on it."""

    api: str
    operators: str
    editor_email: str
    editor_password: str
    operator_token: str = ""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Target":
        """Read the file that `callboard up` writes into its data folder. Raises DemoError if it made no demo
        accounts.
        """
        if "EDITOR_EMAIL" not in facts:
            raise DemoError("this data folder has no demo accounts: stop it, and start it with `callboard up --demo`")
        return cls(
            f"{facts['HTTP_URL']}/api/v1",
            str(facts["OPS_URL"]),
            str(facts["EDITOR_EMAIL"]),
            str(facts["EDITOR_PASSWORD"]),
            str(facts.get("OPS_TOKEN", "")),
        )


class Scenario:
    """One run: a client session, its users, and the number of steps."""

    def __init__(self, target: Target, client: aiohttp.ClientSession, console: Console) -> None:
        self.target = target
        self.client = client
        self.console = console
        self.steps = 0
        self.began = time.monotonic()

    async def call(
        self, method: str, path: str, expected: int, *, token: str = "", body: Any = None, **headers: str
    ) -> Any:
        """Send one request to the API; return its `data`. Raises DemoError unless it has the expected status."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        try:
            async with self.client.request(method, self.target.api + path, json=body, headers=sent) as response:
                if response.status != expected:
                    raise DemoError(await _explained(method, path, expected, response))
                return (await response.json()).get("data") if response.status != HTTPStatus.NO_CONTENT else None
        except aiohttp.ClientError as error:
            raise DemoError(f"{self.target.api} does not answer as Callboard does: {error}") from error
        except TimeoutError as error:
            raise DemoError(f"{method} {path} was not answered in time") from error

    async def look(self, path: str) -> Any:
        """Send one request to the operator plane; return its `data`."""
        headers = {"Authorization": f"Bearer {self.target.operator_token}"} if self.target.operator_token else {}
        async with self.client.get(self.target.operators + path, headers=headers) as response:
            if response.status != 200:  # noqa: PLR2004 - OK
                raise DemoError(f"GET {path} answered {response.status}")
            return (await response.json())["data"]

    async def until(self, what: str, seen: Callable[[], Awaitable[Any]]) -> Any:
        """Poll until there is a result. Raises DemoError after PATIENCE_S without one."""
        ends_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends_at:
            if found := await seen():
                return found
            await asyncio.sleep(POLL_INTERVAL_S)
        raise DemoError(f"{what} did not come in {PATIENCE_S:g} s")

    async def step(self, sent: str, work: Awaitable[Any], came: Callable[[Any], str]) -> Any:
        """Run one step and print it."""
        began = time.monotonic()
        result = await work
        self.steps += 1
        took_ms = (time.monotonic() - began) * 1000
        self.console.print(
            f"{self.steps:>3}  {sent:<64} -> {came(result):<52} {took_ms:6.0f} ms",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return result

    async def mail_to(self, address: str, word: str) -> Any:
        """Return the mail to an address with a word in its subject."""

        async def seen() -> Any:
            mails = await self.look("/ops/v1/mailbox")
            return next((mail for mail in mails if mail["to"] == address and word in mail["subject"]), None)

        return await self.until(f"the mail '{word}' to {address}", seen)


async def _explained(method: str, path: str, expected: int, response: aiohttp.ClientResponse) -> str:
    """Explain an unexpected response to an operator."""
    status, text = response.status, (await response.text(errors="replace"))[:500]
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = response.headers.get("Retry-After", "60")
        return f"too many requests from this machine ({method} {path}): run it again in {wait} s"
    if (path, status) in (("/auth/login", HTTPStatus.UNAUTHORIZED), ("/auth/login", HTTPStatus.FORBIDDEN)):
        return (
            f"POST {path} answered {status} and not {expected}: the demo's editor has another password or is disabled. "
            "`callboard up --reset --demo` begins with an empty data folder"
        )
    if status == HTTPStatus.FORBIDDEN:
        return (
            f"{method} {path} answered 403: the demo's editor has another role. An admin can restore it: "
            "`callboard users role editor@example.org editor`"
        )
    return f"{method} {path} answered {status} and not {expected}: {text}"


async def play(target: Target, console: Console) -> int:
    """Run the main scenario; return the number of steps. Raises DemoError."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client:
        scene = Scenario(target, client, console)
        email = f"author-{secrets.token_hex(4)}@example.org"
        author = await _join(scene, email)
        editor = await _log_in(scene, target.editor_email, target.editor_password)
        content_id, word = await _publish(scene, author, editor)
        await _read(scene, content_id, word)
        await _measure(scene, content_id, email, editor)
        seconds = time.monotonic() - scene.began
        console.print(f"\nThe main job: {scene.steps} steps in {seconds:.1f} s.", highlight=False)
        return scene.steps


async def _join(scene: Scenario, email: str) -> str:
    """Register, read the mail, verify, log in; return the author's access token."""
    password = "Quiet-" + secrets.token_urlsafe(9) + "7"
    account = {"email": email, "password": password, "full_name": "Ada Penwright", "terms_accepted": True}
    await scene.step(
        f"POST /auth/register {email}",
        scene.call("POST", "/auth/register", 201, body=account),
        lambda user: f"201 user {user['user_id'][:8]}, not verified",
    )
    mail = await scene.step(
        "look into the mail catcher",
        scene.mail_to(email, "Confirm"),
        lambda mail: f"'{mail['subject']}'",
    )
    link = re.search(r"\?token=(\S+)", mail["text"])
    if link is None:
        raise DemoError("the verification mail has no link that ends in ?token=")
    await scene.step(
        "POST /auth/verify-email, with the link's token",
        scene.call("POST", "/auth/verify-email", 200, body={"token": link[1]}),
        lambda user: f"200 is_verified {user['is_verified']}",
    )
    return await _log_in(scene, email, password)


async def _log_in(scene: Scenario, email: str, password: str) -> str:
    login = await scene.step(
        f"POST /auth/login {email}",
        scene.call("POST", "/auth/login", 200, body={"email": email, "password": password}),
        lambda login: f"200 a token for {login['expires_in']} s",
    )
    return str(login["access_token"])


async def _publish(scene: Scenario, author: str, editor: str) -> tuple[str, str]:
    """Draft, review, rejection, second draft, approval, publication; return the article's id and a word that only it
    has.
    """
    word = "w" + secrets.token_hex(5)
    title = "What the call board said"
    draft = {"title": title, "body": "<p>A company of actors waits in the wings.</p><script>alert(1)</script>"}
    content = await scene.step(
        f"POST /content '{title}'",
        scene.call("POST", "/content", 201, token=author, body=draft),
        lambda content: f"201 {content['status']} {content['content_id'][:8]}",
    )
    path = f"/content/{content['content_id']}"

    async def move(who: str, token: str, action: str, note: str | None = None) -> Any:
        return await scene.step(
            f"{who}: {action}" + (f", '{note}'" if note else ""),
            scene.call("POST", f"{path}/transitions", 200, token=token, body={"action": action, "note": note}),
            lambda content: f"200 {content['status']}, version {content['version']}",
        )

    await move("author", author, "submit_for_review")
    content = await move("editor", editor, "reject", "Say what the board is for.")
    better = {"title": title, "body": f"<p>It tells a company of actors what to do next: {word}.</p>"}
    await scene.step(
        f'author: PUT /content/…, If-Match "{content["version"]}"',
        scene.call("PUT", path, 200, token=author, body=better, If_Match=f'"{content["version"]}"'),
        lambda content: f"200 {content['status']}, version {content['version']}",
    )
    await move("author", author, "submit_for_review")
    await move("editor", editor, "approve")
    await move("editor", editor, "publish")
    return str(content["content_id"]), word


async def _read(scene: Scenario, content_id: str, word: str) -> None:
    """Find and read, without an account."""
    await scene.step(
        f"reader: GET /content/search?q={word}",
        scene.call("GET", f"/content/search?q={word}", 200),
        lambda hits: f"200 {len(hits)} hit: …{hits[0]['snippet'][-36:] if hits else ''}",
    )
    await scene.step(
        "reader: GET /content/…",
        scene.call("GET", f"/content/{content_id}", 200),
        lambda content: f"200 '{content['title']}'",
    )


async def _measure(scene: Scenario, content_id: str, email: str, editor: str) -> None:
    """Report readers by an external producer; check the mail, the statistics and the dead letters."""
    config = await scene.look("/ops/v1/config")
    topic = f"{config['TOPIC_PREFIX']}.activity.v1"
    await scene.step(
        f"producer: {VIEWS} page views to {topic}, one not JSON",
        _produce(config["KAFKA_BROKERS"], topic, content_id),
        lambda _: "all acknowledged",
    )
    await scene.step(
        "look into the mail catcher",
        scene.mail_to(email, "Published"),
        lambda mail: f"'{mail['subject']}'",
    )

    async def counted() -> Any:
        path = f"/stats?metric=page_view&subject_id={content_id}"
        rows = await scene.call("GET", path, 200, token=editor)
        return sum(row["count"] for row in rows) >= VIEWS - 1 and rows

    rows = await scene.step(
        "editor: GET /stats?metric=page_view",
        scene.until(f"{VIEWS - 1} page views", counted),
        lambda rows: f"200 {sum(row['count'] for row in rows)} views",
    )
    if sum(row["count"] for row in rows) != VIEWS - 1:
        raise DemoError(f"{sum(row['count'] for row in rows)} page views were counted, and {VIEWS - 1} were good")

    async def buried() -> Any:
        letters = await scene.look("/ops/v1/dead-letters")
        return [letter for letter in letters if letter["key"] == content_id]

    letters = await scene.step(
        "operator: GET /ops/v1/dead-letters",
        scene.until("the dead letter", buried),
        lambda letters: f"200 {len(letters)} of this article: {letters[0]['reason']}",
    )
    if len(letters) != 1:
        raise DemoError(f"{len(letters)} dead letters, and 1 record was bad")


async def _produce(brokers: str, topic: str, subject: str) -> None:
    """Run the producer as a separate process."""
    command = (sys.executable, "-m", "callboard.ops.activity_producer", brokers, topic, subject, str(VIEWS))
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise DemoError(f"the producer ended with status {process.returncode}: {errors.decode()[-500:]}")

"""A real `callboard up`: a process of its own, on a data folder and ports of its own, spoken to over its sockets.

Not called after the command: a module `callboard` on this path would stand before the package.
"""

import asyncio
import atexit
import contextlib
import ctypes
import http.client
import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import asyncpg
import psutil
from argon2 import PasswordHasher as Argon2Hasher

from callboard.ops.embedded.data_directory import free_ports
from kit.contract import real
from kit.environment import own_environment

T = TypeVar("T")

# Limits of waiting, and no promises: what is to be quick is measured in tests/bench.
UP_WITHIN_S = 120.0
STOP_WITHIN_S = 60.0
WAIT_S = 60.0
POLL_INTERVAL_S = 0.02
PR_SET_PDEATHSIG = 1
LIMITS = ("PER_MINUTE", "REGISTER", "LOGIN", "SEARCH", "COMMENTS")  # tests do it faster than people, on a busy machine
UNLIMITED = {f"RATE_LIMIT_{of}": "99999" for of in LIMITS}
UNLIMITED |= dict.fromkeys(("REQUEST_TIMEOUT_MS", "OVERLOAD_TARGET_MS"), "9999")

_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None
_living: set["Command"] = set()


class Answer(NamedTuple):
    """A response: `data` is what its envelope carries, `code` the code of an error."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def data(self) -> Any:
        return self.body["data"]

    @property
    def code(self) -> str:
        return str(self.body["error"]["code"])


def until(what: str, seen: Callable[[], T | None], within_s: float = WAIT_S) -> T:
    """Look at another process until there is something to see. Raises AssertionError after `within_s`."""
    ends_at = time.monotonic() + within_s
    while True:
        if found := seen():
            return found
        assert time.monotonic() < ends_at, f"{what} did not come in {within_s:g} s"
        time.sleep(POLL_INTERVAL_S)


def _before_exec() -> None:
    """End with the tests; and listen to Ctrl-C, also if the tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


class Command:
    """`callboard ...` as a subprocess. It ends with the tests, however they end."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        environ = own_environment()
        self.began = time.monotonic()
        # Files and not pipes: a pipe that nobody reads would stop it.
        self._words = Path(tempfile.mkdtemp(prefix="callboard-said-"))
        atexit.register(shutil.rmtree, self._words, ignore_errors=True)
        environ |= {"UPLOADS_FOLDER": str(self._words / "uploads")} if "serve" in arguments else {}
        with (self._words / "output").open("wb") as output, (self._words / "errors").open("wb") as errors:
            self.process = subprocess.Popen(  # noqa: S603 - a command of ours
                [sys.executable, "-m", "callboard.ops", *arguments],
                env=environ | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                preexec_fn=_before_exec,  # noqa: PLW1509 - two system calls
            )
        _living.add(self)

    @property
    def output(self) -> str:
        return (self._words / "output").read_text(encoding="utf-8", errors="replace")

    @property
    def errors(self) -> str:
        return (self._words / "errors").read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, within_s: float = STOP_WITHIN_S) -> int:
        """Its exit status. Raises TimeoutExpired, after having ended it by force."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            _living.discard(self)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        _living.discard(self)

    def end(self) -> None:
        """For the end of a test: stop it, if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_WITHIN_S)
            self.kill()
        _living.discard(self)


class CallboardProcess(Command):
    """A process that serves the API and the operator plane on ports of its own."""

    def __init__(self, *arguments: str, environment: Mapping[str, str]) -> None:
        ports = dict(zip(("HTTP_PORT", "OPS_PORT"), map(str, free_ports(2)), strict=True))
        self.environment = UNLIMITED | ports | dict(environment)
        self.api = f"http://127.0.0.1:{self.environment.get('HTTP_PORT')}/api/v1"
        self.operators = f"http://127.0.0.1:{self.environment.get('OPS_PORT')}"
        super().__init__(*arguments, environment={k: v for k, v in self.environment.items() if v})

    def call(self, method: str, path: str, *, token: str = "", body: Any = None, timeout_s: float = WAIT_S) -> Answer:
        """One request to the API."""
        return request(method, self.api + path, token=token, body=body, timeout_s=timeout_s)

    def look(self, path: str, token: str = "") -> Any:
        """What the operator plane shows."""
        answer = request("GET", self.operators + path, token=token or self.environment.get("OPS_TOKEN", ""))
        assert answer.status == 200, answer
        return answer.data

    def mails_to(self, address: str) -> list[Any]:
        return [mail for mail in self.look("/ops/v1/mailbox") if mail["to"] == address]

    def nodes(self) -> dict[str, Any]:
        """The nodes of the tree by path, without the root's name."""
        return dict(_nodes(self.look("/ops/v1/tree"), ""))

    def mail_token(self, address: str, within_s: float = WAIT_S) -> str:
        """The secret of the newest verification mail."""

        def seen() -> str | None:
            mails = [mail for mail in self.mails_to(address) if "Confirm" in mail["subject"]]
            found = re.search(r"\?token=(\S+)", mails[0]["text"]) if mails else None
            return found and found[1]

        return until(f"the verification mail to {address}", seen, within_s)

    def register(self, email: str = "") -> dict[str, str]:
        """An account that is not verified yet."""
        email = email or f"{secrets.token_hex(6)}@example.org"
        account = {"email": email, "password": PASSWORD, "full_name": "Ada Penwright", "terms_accepted": True}
        answer = self.call("POST", "/auth/register", body=account)
        assert answer.status == 201, answer
        return {"email": email, "user_id": answer.data["user_id"]}

    def log_in(self, email: str, password: str = "") -> str:
        """An access token."""
        answer = self.call("POST", "/auth/login", body={"email": email, "password": password or PASSWORD})
        assert answer.status == 200, answer
        return str(answer.data["access_token"])

    def join(self, email: str = "") -> dict[str, str]:
        """A verified account with an access token: registration, mail, verification, login."""
        account = self.register(email)
        answer = self.call("POST", "/auth/verify-email", body={"token": self.mail_token(account["email"])})
        assert answer.status == 200, answer
        return account | {"token": self.log_in(account["email"])}


PASSWORD = "Quiet-Wings-7"


class Up(CallboardProcess):
    """`callboard up` on a data folder."""

    def __init__(self, data: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.data = data
        self._people: tuple[str, ...] = ()
        super().__init__("up", *options, environment={"CALLBOARD_DATA_DIR": str(data), **(environment or {})})

    @property
    def facts(self) -> dict[str, Any]:
        """What it tells other commands; empty while it does not."""
        try:
            facts: dict[str, Any] = json.loads((self.data / "running.json").read_bytes())
        except FileNotFoundError:
            return {}
        return facts if facts["pid"] == self.pid else {}

    def is_up(self) -> bool:
        assert self.process.poll() is None, f"status {self.process.returncode}: {self.output}{self.errors}"
        return "\nUp. " in self.output

    def ready(self, within_s: float = UP_WITHIN_S) -> "Up":
        """Wait until it says that it is up."""
        until("'Up.'", self.is_up, within_s)
        facts = self.facts
        self.api, self.operators = f"{facts['HTTP_URL']}/api/v1", facts["OPS_URL"]
        return self

    def people(self) -> tuple[str, str, str]:
        """Access tokens of an admin, an editor and an author, who are made when they are asked for first."""
        if not self._people:
            with ThreadPoolExecutor(1) as apart:  # a test may have a loop of its own
                self._people = apart.submit(asyncio.run, make_people(self.facts["DATABASE_URL"])).result()
        admin, editor, author = (self.log_in(email) for email in self._people)
        return admin, editor, author

    def execute(self, statement: str, *arguments: Any) -> None:
        """A statement in its database."""

        async def run() -> None:
            connection = await asyncpg.connect(self.facts["DATABASE_URL"])
            try:
                await connection.execute(statement, *arguments)
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as apart:  # a test may have a loop of its own
            apart.submit(asyncio.run, run()).result()

    def demo_facts(self) -> dict[str, Any]:
        """Its facts, with an editor as the demo needs one."""
        self.people()
        return {**self.facts, "EDITOR_EMAIL": self._people[1], "EDITOR_PASSWORD": PASSWORD}

    def server_pids(self) -> dict[str, int]:
        """The embedded servers' processes, as its pid files say; one that is just being written is left out."""
        pids = {}
        for path in (self.data / "run").glob("*.pid"):
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                pids[path.stem] = int(json.loads(path.read_bytes())["pid"])
        return pids

    def family(self) -> list[psutil.Process]:
        """Every process below it."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def log(self) -> list[dict[str, Any]]:
        """Its log, by the line."""
        return [json.loads(line) for line in (self.data / "logs" / "callboard.log").read_text().splitlines()]


async def make_people(url: str, roles: Sequence[str] = ("admin", "editor", "member")) -> tuple[str, ...]:
    """Accounts of these roles in a running system's database; their addresses. Their password is PASSWORD."""
    password_hash = Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    emails = tuple(f"{role}-{secrets.token_hex(6)}@example.org" for role in roles)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "with made as (insert into users (email, password_hash, full_name, role, is_verified) "
            "select email, $2, 'Some One', split_part(email, '-', 1), true from unnest($1::text[]) email "
            "returning user_id) insert into user_profiles (user_id) select user_id from made",
            emails,
            password_hash,
        )
    finally:
        await connection.close()
    return emails


def gone(processes: list[psutil.Process], within_s: float = 3.0) -> list[psutil.Process]:
    """Wait for processes' ends; those that live on. A zombie is dead."""
    ends_at, left = time.monotonic() + within_s, processes
    while (left := [each for each in left if _lives(each)]) and time.monotonic() < ends_at:
        time.sleep(POLL_INTERVAL_S)
    return left


def working_in(data: Path) -> list[psutil.Process]:
    """Every living process that was given this data folder, or works in it: what `up` may have left behind."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            given = [process.cwd(), *process.cmdline(), process.environ().get("CALLBOARD_DATA_DIR", "")]
            if any(str(data) in word for word in given) and _lives(process):
                found.append(process)
    return found


def request(
    method: str,
    url: str,
    *,
    token: str = "",
    body: Any = None,
    raw: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> Answer:
    """One HTTP request on a connection of its own; `body` goes as JSON, `raw` as it is."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout_s)
    sent = {"Content-Type": "application/json"} if body is not None or raw is not None else {}
    sent |= {"Authorization": f"Bearer {token}"} if token else {}
    try:
        payload = raw if body is None else json.dumps(body).encode()
        connection.request(
            method, f"{where.path}?{where.query}" if where.query else where.path, payload, sent | dict(headers or {})
        )
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if "/api/" in where.path:
        real().check(method, where.path, response.status, content, response.headers)
    is_json = content and "json" in response.headers.get("Content-Type", "")
    return Answer(response.status, json.loads(content) if is_json else content, response.headers)


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """A data folder that servers of another user reach; removed at the end, with whatever is in it."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder / "data"
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def one_up(environment: Mapping[str, str] | None = None) -> Iterator[Up]:
    """A `callboard up` that is ready, on a data folder of its own; ended with the block, however that ends."""
    with data_folder() as data:
        up = Up(data, environment=environment)
        try:
            yield up.ready()
        finally:
            up.end()


@contextlib.contextmanager
def succession() -> Iterator[list[Up]]:
    """A `callboard up` in a list: whoever kills it leaves its successor there. The last one is ended with the block."""
    with data_folder() as data:
        held = [Up(data).ready()]
        try:
            yield held
        finally:
            held[-1].end()


def _nodes(node: dict[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for child in node.get("children", []):
        path = f"{above}/{child['name']}".lstrip("/")
        yield path, child
        yield from _nodes(child, path)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


@atexit.register
def _end_all() -> None:
    for each in list(_living):
        each.end()

"""Several processes behind one port: limits, schedules and data hold across them, and the dead are replaced."""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from kit.running import PASSWORD, Answer, CallboardProcess, Up, gone, make_people, request, until

from callboard.ops import processes
from callboard.ops.config.configuration import load
from callboard.ops.config.sources import ConfigError
from callboard.ops.embedded.data_directory import free_ports
from callboard.ops.processes import environments_of, serve_processes
from callboard.runtime import Backoff

pytestmark = pytest.mark.long

COUNT = 3
TOKEN = "a-token-for-operators"
ELSEWHERE = {
    "DATABASE_URL": "postgresql://db/callboard",
    "REDIS_URL": "redis://cache",
    "KAFKA_BROKERS": "broker:9092",
    "SMTP_HOST": "mail",
    "JWT_SECRET_KEY": "x" * 32,
}


class Fleet(CallboardProcess):
    """`callboard serve --processes 3` on the servers of the running `up`."""

    def __init__(self, up: Up, file: Path, url: str) -> None:
        self.url = url
        first = next(port for port in free_ports(20) if all(_is_free(port + n) for n in range(COUNT)))
        self.ports = [first + n for n in range(COUNT)]
        names = ("REDIS_URL", "KAFKA_BROKERS", "SMTP_HOST", "SMTP_PORT", "SMTP_TLS")
        servers = {name: str(up.facts[name]) for name in names}
        own = {"DATABASE_URL": url, "OPS_PORT": str(first), "OPS_TOKEN": TOKEN, "TOPIC_PREFIX": f"f{first}"}
        limits = {"RATE_LIMIT_LOGIN": "5", "CALLBOARD_CONFIG": str(file), "SERVICE_NAME": f"fleet{first}"}
        secret = {"JWT_SECRET_KEY": secrets.token_urlsafe(48)}
        super().__init__(
            "serve", "--processes", str(COUNT), environment={**servers, **own, **limits, **secret, "MIGRATE": "auto"}
        )

    def plane(self, number: int, path: str) -> Any:
        answer = request("GET", f"http://127.0.0.1:{self.ports[number]}{path}", token=TOKEN)
        assert answer.status == 200, answer
        return answer.data

    def change(self, path: str, body: Any, *, at: int) -> Answer:
        return request("PATCH", f"http://127.0.0.1:{self.ports[at]}{path}", token=TOKEN, body=body)

    def size(self, number: int, pool: str) -> int:
        return int(next(each["size"] for each in self.plane(number, "/ops/v1/pools") if each["name"] == pool))

    def is_ready(self, number: int) -> bool:
        try:
            return request("GET", f"http://127.0.0.1:{self.ports[number]}/ready").status == 200
        except OSError:
            return False

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def run(work: Any) -> Any:
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(asyncio.run, work).result()


async def execute(url: str, statement: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        if ";" in statement:
            return [await connection.execute(statement)]
        return list(await connection.fetch(statement, *arguments))
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def fleet(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    file = tmp_path_factory.mktemp("fleet") / "callboard.toml"
    file.write_text("[limits.search]\nlimit = 41\n")
    name = f"fleet_{secrets.token_hex(4)}"
    run(execute(up.facts["DATABASE_URL"], f"create database {name}"))
    made = Fleet(up, file, f"{up.facts['DATABASE_URL'].rpartition('/')[0]}/{name}")
    made.file = file  # type: ignore[attr-defined]
    try:
        for number in range(COUNT):
            until(f"process {number + 1}", lambda each=number: made.is_ready(each), 60)
        yield made
    finally:
        made.end()


def test_every_process_serves_the_one_port(fleet: Fleet) -> None:
    for _ in range(60):
        assert request("GET", fleet.api.removesuffix("/api/v1") + "/health").status == 200
    served = [fleet.plane(number, "/ops/v1/tree")["name"] for number in range(COUNT)]
    assert served == ["callboard"] * COUNT
    assert len(fleet.children()) == COUNT


def test_the_limit_of_logins_holds_over_all_of_them(fleet: Fleet) -> None:
    body = {"email": f"{secrets.token_hex(4)}@example.org", "password": "Wrong-Word-7"}
    statuses = Counter(fleet.call("POST", "/auth/login", body=body).status for _ in range(30))
    assert statuses[429] >= 30 - 5 - 2  # one comes back each 12 s
    assert statuses[401] <= 5 + 2


def test_a_schedule_that_is_due_in_all_of_them_makes_one_job(fleet: Fleet) -> None:
    run(execute(fleet.url, RECORD_JOBS))
    for number in (1, 2, 3):  # each process looks within five seconds: it has come late to two of them at least
        run(
            execute(fleet.url, "update schedules set last_due = now() - interval '61 minutes' where kind = 'retention'")
        )
        until("the job", lambda least=number: _recorded(fleet) >= least, 30)
    assert _recorded(fleet) == 3


# A job that is done is forgotten: a trigger of the test remembers it, but not the jobs that it enqueues itself.
RECORD_JOBS = """
    create table made (job_id bigint);
    create function remember() returns trigger language plpgsql as
        'begin insert into made values (new.job_id); return new; end';
    create trigger remember after insert on jobs
        for each row when (new.kind = 'retention' and coalesce(new.payload ->> 'rule', '') = '')
        execute function remember();
"""


def _recorded(fleet: Fleet) -> int:
    return int(run(execute(fleet.url, "select count(*) as made from made"))[0]["made"])


def test_a_hang_up_reaches_every_process(fleet: Fleet) -> None:
    fleet.file.write_text("log_level = 'WARNING'\n")  # type: ignore[attr-defined]
    fleet.signal(signal.SIGHUP)
    for number in range(COUNT):
        until("the level", lambda each=number: fleet.plane(each, "/ops/v1/config")["LOG_LEVEL"] == "WARNING")


def test_settings_and_pools_that_change_in_one_process_change_in_all_and_in_its_successors(fleet: Fleet) -> None:
    before, own = len(_changes(fleet)), fleet.plane(0, "/ops/v1/config")["RATE_LIMIT_REGISTER"]
    wrong = fleet.change("/ops/v1/config", {"settings": {"RATE_LIMIT_REGISTER": "0"}}, at=0)
    assert wrong.status == 400
    good = {"settings": {"RATE_LIMIT_REGISTER": "17", "limits.search.limit": 43, "DATABASE_POOL_SIZE": "9"}}
    answer = fleet.change("/ops/v1/config", good, at=1)
    assert answer.status == 200
    assert answer.data["restart"] == ["DATABASE_POOL_SIZE"]
    assert fleet.change("/ops/v1/pools/content_queries", {"size": 5}, at=2).status == 200
    for number in range(COUNT):
        until("the limit", lambda each=number: fleet.plane(each, "/ops/v1/config")["RATE_LIMIT_REGISTER"] == 17)
        until("the size", lambda each=number: fleet.size(each, "content_queries") == 5)
    names = sorted(row["name"] for row in _changes(fleet)[before:])
    assert names == ["RATE_LIMIT_REGISTER", "limits.search.limit"], "recorded once"
    (victim,) = (each for each in fleet.children() if each.environ()["OPS_PORT"] == str(fleet.ports[2]))
    victim.kill()
    until("its end", lambda: not gone([victim], 0))
    until("its successor", lambda: fleet.is_ready(2), 60)
    until("the limit", lambda: fleet.plane(2, "/ops/v1/config")["RATE_LIMIT_REGISTER"] == 17)
    assert fleet.change("/ops/v1/config", {"settings": {"RATE_LIMIT_REGISTER": None}}, at=2).status == 200
    for number in range(COUNT):
        until("its own", lambda each=number: fleet.plane(each, "/ops/v1/config")["RATE_LIMIT_REGISTER"] == own)


def _changes(fleet: Fleet) -> list[Any]:
    select = "select detail ->> 'name' as name from audit_log where action = 'settings.changed' order by audit_id"
    return list(run(execute(fleet.url, select)))


def test_a_killed_process_loses_nothing_that_was_acknowledged_and_is_replaced(fleet: Fleet) -> None:
    (email,) = run(make_people(fleet.url))[2:]
    run(execute(fleet.url, "select 1"))
    token = until("a login", lambda: _login(fleet, email), 60)
    acknowledged: list[str] = []
    victim = fleet.children()[0]

    def write(number: int) -> None:
        body = {"title": f"Title {number}", "body": "<p>Words.</p>"}
        try:
            answer = fleet.call("POST", "/content", token=token, body=body)
        except OSError:
            return  # the process that had it is the dead one: unknown
        if answer.status == 201:
            acknowledged.append(answer.data["content_id"])

    with ThreadPoolExecutor(6) as writers:
        for number in range(90):
            writers.submit(write, number)
            if number == 40:
                victim.kill()
    assert len(acknowledged) > 40
    rows = run(execute(fleet.url, "select content_id::text as id from content"))
    assert set(acknowledged) <= {row["id"] for row in rows}
    until("its successor", lambda: len(fleet.children()) == COUNT and all(map(fleet.is_ready, range(COUNT))), 60)
    assert victim.pid not in {child.pid for child in fleet.children()}
    assert "has ended by SIGKILL" in fleet.errors


def _login(fleet: Fleet, email: str) -> str:
    answer = fleet.call("POST", "/auth/login", body={"email": email, "password": PASSWORD})
    return str(answer.data["access_token"]) if answer.status == 200 else ""


def test_a_stop_ends_all_of_them_and_then_itself(fleet: Fleet) -> None:
    children, crashes = fleet.children(), fleet.errors.count("crashed")
    fleet.signal(signal.SIGTERM)
    assert fleet.wait(30) == 0
    assert fleet.errors.count("crashed") == crashes
    assert gone(children, 0.1) == []


# Without servers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings, and a function that runs children of Python code instead of servers."""
    port = free_ports(1)[0]
    for name, value in {**ELSEWHERE, "HTTP_PORT": str(free_ports(1)[0]), "OPS_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "BACKOFF", Backoff(initial_s=0.01, max_s=0.02))

    async def serve(code: str) -> int:
        monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", code])
        return await serve_processes(load(os.environ), 2)

    return serve


async def test_children_that_die_again_and_again_end_it_with_status_1(
    alone: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await alone("raise SystemExit(3)") == 1
    assert "has ended with status 3" in capfd.readouterr().err


async def test_a_child_that_cannot_begin_ends_it_at_once_with_its_line_alone(
    alone: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await alone("import sys; sys.exit('' if 0 else 2)") == 2
    assert capfd.readouterr().err == ""


async def test_a_child_that_does_not_stop_is_killed(alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_S", 0.0)
    monkeypatch.setattr(processes, "KILL_S", 0.1)
    for name in ("SHUTDOWN_GRACE_S", "JOBS_GRACE_S"):
        monkeypatch.setenv(name, "1")
    code = "import signal, time, os; signal.signal(15, signal.SIG_IGN); os.kill(os.getppid(), 10); time.sleep(99)"
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, started.set)
    serving = asyncio.ensure_future(alone(code))
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == 0
    loop.remove_signal_handler(signal.SIGUSR1)


FROZEN = """
import os, signal, socket
door = socket.create_server(("127.0.0.1", int(os.environ["OPS_PORT"])))
os.kill(os.getpid(), signal.SIGSTOP)
"""


async def test_a_child_that_takes_connections_and_does_not_answer_is_killed_and_replaced(
    alone: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its kernel would give it connections for ever. Seen to fail without the question for its health: it waited."""
    monkeypatch.setattr(processes, "PAUSE_S", 0.05)
    monkeypatch.setattr(processes, "ANSWER_S", 0.05)
    monkeypatch.setenv("PROCESS_TIMEOUT_S", "2")
    monkeypatch.setattr(processes, "RESTARTS", 0)
    assert await alone(FROZEN) == 1
    assert "does not answer: it is killed" in caplog.text
    assert "has ended by SIGKILL" in caplog.text


def test_ports_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def faults(**settings: str) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            environments_of(load({**ELSEWHERE, **settings}).process, 3, {})
        return list(refused.value.faults)

    monkeypatch.setattr(processes, "port_taken", lambda *_: False)
    assert faults(HTTP_PORT="9002") == ["HTTP_PORT must not be one of 9000 to 9002, the processes' OPS_PORT"]
    assert faults(OPS_PORT="65535") == ["OPS_PORT must leave room for 3 ports, one for each process"]
    monkeypatch.setattr(processes, "port_taken", lambda _host, port: port == 9001)
    assert faults() == ["OPS_PORT 9001 is in use"]


def test_a_killed_parent_takes_its_children_with_it(tmp_path: Path) -> None:
    code = (
        "import asyncio, os; from callboard.ops import processes; from callboard.ops.config.configuration import load;"
        "processes.COMMAND = ['sleep', '60'];"
        "asyncio.run(processes.serve_processes(load(os.environ), 2))"
    )
    ports = dict(zip(("HTTP_PORT", "OPS_PORT"), map(str, free_ports(2)), strict=True))
    parent = psutil.Popen([sys.executable, "-c", code], env={**os.environ, **ELSEWHERE, **ports}, cwd=tmp_path)
    children = until("its children", lambda: parent.children() if len(parent.children()) == 2 else None)
    parent.kill()
    parent.wait(10)
    assert gone(children) == []

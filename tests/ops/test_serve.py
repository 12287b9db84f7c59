"""`callboard serve`: the same tree on servers that the environment names, in one process or in several."""

import asyncio
import contextlib
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from kit.commands import run_command
from kit.running import CallboardProcess, Command, Up, until

from callboard.ops.application import Application
from callboard.ops.cli import main
from callboard.ops.config.configuration import load
from callboard.runtime import Node, Supervisor

pytestmark = pytest.mark.long

NEEDED = ("DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "JWT_SECRET_KEY", "SMTP_HOST")
VIEWS = 200
ELSEWHERE = {
    "DATABASE_URL": "postgresql://db/callboard",
    "REDIS_URL": "redis://cache",
    "KAFKA_BROKERS": "broker:9092",
    "SMTP_HOST": "mail",
    "JWT_SECRET_KEY": "x" * 32,
}


def test_with_nothing_set_it_lists_every_missing_setting_and_ends() -> None:
    command = Command("serve")
    assert command.wait() == 2
    lines = command.errors.splitlines()
    assert [line.split()[:2] for line in lines] == [["callboard:", name] for name in NEEDED]
    assert command.output == ""


def test_bad_values_and_missing_ones_are_named_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*NEEDED, "OPS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    bad = {"DATABASE_URL": "mysql://db", "HTTP_PORT": "eighty", "JWT_SECRET_KEY": "short", "ROLES": "kitchen"}
    for name, value in bad.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["serve"])
    assert ended.value.code == 2
    named = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert named == ["DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "HTTP_PORT", "ROLES", "JWT_SECRET_KEY", "SMTP_HOST"]


def test_operators_beyond_loopback_need_a_token_before_anything_listens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPS_TOKEN", raising=False)
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPS_HOST", "0.0.0.0")  # noqa: S104 - what is refused
    with pytest.raises(SystemExit) as ended:
        main(["serve"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("callboard: OPS_TOKEN is missing")


@pytest.fixture(scope="module")
def servers(up: Up, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The running `up`'s servers, with a database, topics and a Redis database of our own."""
    name = f"serve_{secrets.token_hex(4)}"

    async def make_database() -> None:
        connection = await asyncpg.connect(up.facts["DATABASE_URL"])
        try:
            await connection.execute(f"create database {name}")
        finally:
            await connection.close()

    asyncio.run(make_database())
    key = tmp_path_factory.mktemp("secrets") / "jwt"
    key.write_text(secrets.token_urlsafe(48))
    return {
        "DATABASE_URL": up.facts["DATABASE_URL"].rpartition("/")[0] + f"/{name}",
        "REDIS_URL": up.facts["REDIS_URL"].rpartition("/")[0] + "/7",
        "KAFKA_BROKERS": up.facts["KAFKA_BROKERS"],
        "SMTP_HOST": up.facts["SMTP_HOST"],
        "SMTP_PORT": up.facts["SMTP_PORT"],
        "SMTP_TLS": up.facts["SMTP_TLS"],
        "TOPIC_PREFIX": name,
        "JWT_SECRET_KEY_FILE": str(key),
    }


@contextlib.contextmanager
def serving(up: Up, servers: dict[str, str], *roles: str) -> Iterator[list[CallboardProcess]]:
    token = {"OPS_TOKEN": "a-token-for-operators"}
    sites = [CallboardProcess("serve", environment={**servers, **token, "ROLES": each}) for each in roles]
    try:
        for site in sites:
            site.mails_to = up.mails_to  # type: ignore[method-assign]  # the mails are caught by the other system
            until("its word that it serves", lambda each=site: "callboard serves on" in each.errors)
        yield sites
    finally:
        for site in sites:
            site.end()


def test_two_processes_share_the_work_and_each_event_has_its_effect_once(up: Up, servers: dict[str, str]) -> None:
    # One reads the streams and sends no mail: what it reads of mail, the other sends.
    with serving(up, servers, "front,streams", "") as sites:
        one, other = sites
        assert [site.process.poll() for site in sites] == [None, None]

        accounts = [site.register() for site in sites * 5]
        for account in accounts:
            one.mail_token(account["email"])
        login = one.join()
        for site in sites:
            assert site.call("GET", "/users/me", token=login["token"]).data["email"] == login["email"]
            assert site.look("/ops/v1/config")["JWT_SECRET_KEY"] == "***"

        subject = secrets.token_hex(8)
        asyncio.run(report(servers, subject))
        editor = make_editor(servers, one)
        stats = f"/stats?metric=page_view&subject_id={subject}"

        def counted() -> bool:
            return sum(row["count"] for row in other.call("GET", stats, token=editor).data) >= VIEWS - 1

        until("the statistics", counted)
        until("the dead letter", lambda: one.look("/ops/v1/dead-letters"), 10)
        for site in sites:
            assert [row["count"] for row in site.call("GET", stats, token=editor).data] == [VIEWS - 1]
            assert [letter["reason"] for letter in site.look("/ops/v1/dead-letters")] == ["malformed"]

        # One leaves; the other takes its partitions and its relay over.
        one.signal(signal.SIGTERM)
        assert one.wait() == 0
        late = other.register()
        other.mail_token(late["email"])
        got = Counter(mail["to"] for account in [*accounts, late] for mail in up.mails_to(account["email"]))
        assert set(got.values()) == {1}
        other.signal(signal.SIGTERM)
        assert other.wait() == 0
        assert all("error" not in line for site in sites for line in site.errors.splitlines())


async def report(servers: dict[str, str], subject: str) -> None:
    topic = f"{servers['TOPIC_PREFIX']}.activity.v1"
    command = ("-m", "callboard.ops.activity_producer", servers["KAFKA_BROKERS"], topic, subject, str(VIEWS))
    producer = await asyncio.create_subprocess_exec(sys.executable, *command)
    assert await asyncio.wait_for(producer.wait(), 20) == 0


def make_editor(servers: dict[str, str], site: CallboardProcess) -> str:
    """An admin by the command line, on DATABASE_URL; admins may do what editors may."""
    email = f"{secrets.token_hex(4)}@example.org"
    arguments = ("users", "create-admin", "--email", email, "--password", "Quiet-Wings-7", "--full-name", "Grace")
    said = run_command(*arguments, environment={"DATABASE_URL": servers["DATABASE_URL"]})
    assert said.status == 0, said.errors
    return site.log_in(email)


ALWAYS = {
    "infrastructure",
    "identity",
    "editorial",
    "analytics",
    "ingestion",
    "delivery",
    "jobs",
    "operators",
    "scaling",
}


@pytest.mark.parametrize(
    ("roles", "parts"),
    [
        ("front", ALWAYS | {"front"}),
        ("streams", ALWAYS | {"streams"}),
        ("workers", ALWAYS),
        ("front,streams,workers", ALWAYS | {"front", "streams"}),
    ],
)
async def test_roles_choose_the_parts_of_the_tree(roles: str, parts: set[str], tmp_path: Path) -> None:
    tree = Application(load({**ELSEWHERE, "ROLES": roles}), tmp_path).tree.root
    assert {child.name for child in tree.children} == parts
    branches = {child.name: below(child) for child in tree.children}
    streams = {"stream_listener", "stream_watcher"}
    anywhere = {"notifier", "mail_queue", "notification_recorder", "notifications", "preferences", "stream_announcer"}
    assert branches["delivery"] == (anywhere | streams if "front" in roles else anywhere)
    assert branches.get("streams", {"streams", "relay"}) == {"streams", "relay"}
    assert ("worker" in branches["jobs"]) is ("workers" in roles)


def below(node: Node) -> set[str]:
    names: set[str] = set()
    if isinstance(node, Supervisor):
        for child in node.children:
            names |= {child.name} | below(child) if not child.name.isdigit() else set()
    return names

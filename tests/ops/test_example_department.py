"""A department of another package, installed beside Callboard and told of by two entry points alone."""

import asyncio
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg
import pytest
from kit.commands import run_command
from kit.running import Up, data_folder, request, until

PACKAGE = Path(__file__).parents[1] / "example_department"
CONFIG = """
[pools.polls]
size = 5
[polls]
max_options = 4
moderation_is_near = true
[polls.limits.vote]
limit = 2
[polls.retention]
votes = 30
"""
GOOD_EVENING = {"CALLBOARD_HELLO__WORD": "Good evening"}
LINK = "/export?token="
KEY = "a-key-of-ours-at-that-service"
FAULTS = {
    ("CALLBOARD_POLLS__MAX_OPTIONS", "21"): "CALLBOARD_POLLS__MAX_OPTIONS must be a whole number, 2 to 20",
    ("CALLBOARD_POLLS__LIMITS__VOTE__LIMIT", "0"): "CALLBOARD_POLLS__LIMITS__VOTE__LIMIT must be a whole number",
    ("CALLBOARD_POLLS__COLOUR", "red"): "CALLBOARD_POLLS__COLOUR: is unknown; there are max_options",
    ("CALLBOARD_QUIZ__SIZE", "3"): "CALLBOARD_QUIZ__SIZE: no package has the department quiz; there are ",
}
# What a process with some roles has, without starting it, and why it does not start with some settings.
SHOWN = """
import json, os, sys
from pathlib import Path
from callboard.ops.application import Application
from callboard.ops.config.configuration import load
from callboard.ops.config.sources import ConfigError
servers = {"DATABASE_URL": "postgresql://nowhere", "REDIS_URL": "redis://nowhere", "KAFKA_BROKERS": "nowhere:9092"}
ours = {"SMTP_HOST": "nowhere", "JWT_SECRET_KEY": "-" * 64}

def shown(roles):
    app = Application(load({**os.environ, **servers, **ours, "ROLES": roles}), Path())
    parents = [child for child in app.tree.root.children if hasattr(child, "children")]
    branches = {parent.name: [child.name for child in parent.children] for parent in parents}
    retention = [rule.name for rule in app.tree.built.declared.retention]
    return {"polls": branches["polls"], "jobs": branches["jobs"], "pools": sorted(app.pools), "retention": retention}

def refused(name, value):
    try:
        load({**os.environ, **servers, **ours, name: value})
    except ConfigError as error:
        return str(error)

settings = json.loads(sys.argv[1])
roles = {each: shown(each) for each in ("front", "streams", "workers")}
print(json.dumps({"roles": roles, "refused": [refused(*each) for each in settings]}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two installed packages, polls and the README's; pip takes everything from this machine."""
    folder = tmp_path_factory.mktemp("packages")
    polls, hello = shutil.copytree(PACKAGE, folder / "polls"), folder / "hello"
    hello.mkdir()
    text = (PACKAGE.parents[1] / "README.md").read_text()
    for name, language in (("hello.py", "python"), ("pyproject.toml", "toml")):
        (hello / name).write_text(text.partition(f"```{language}\n")[2].partition("```")[0])
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "site"))
    pip = [sys.executable, "-m", "pip", "install", *options, str(polls), str(hello)]
    ran = subprocess.run(pip, capture_output=True, text=True, check=False)  # noqa: S603 - pip, on our own package
    assert ran.returncode == 0, ran.stderr
    return folder / "site"


class Moderation:
    """The service of others that judges questions: it counts what it is asked, and limits us when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []  # a question, and the key of who asked
        self.is_limiting = False

    def answer(self, path: str, key: str) -> tuple[int, bytes]:
        (question,) = parse_qs(urlsplit(path).query)["text"]
        self.asked.append((question, key))
        return (429, b"") if self.is_limiting else (200, json.dumps({"is_allowed": "spam" not in question}).encode())


@pytest.fixture(scope="module")
def moderation() -> Iterator[tuple[Moderation, str]]:
    service = Moderation()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = service.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", "3600")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield service, f"http://127.0.0.1:{server.server_port}/moderation"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def with_polls(
    site: Path, moderation: tuple[Moderation, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Up]:
    file = tmp_path_factory.mktemp("config") / "callboard.toml"
    file.write_text(CONFIG)
    service = {"CALLBOARD_POLLS__MODERATION_URL": moderation[1], "CALLBOARD_POLLS__MODERATION_KEY": KEY}
    with data_folder() as data:
        up = Up(data, environment={"PYTHONPATH": str(site), "CALLBOARD_CONFIG": str(file), **GOOD_EVENING, **service})
        try:
            yield up.ready()
        finally:
            up.signal(signal.SIGTERM)
            up.wait()


async def fetch(up: Up, query: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def seen(up: Up, query: str, *arguments: Any) -> None:
    """Wait until the query has a row."""
    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    try:
        async with asyncio.timeout(60):
            while not await connection.fetch(query, *arguments):  # noqa: ASYNC110 - what is awaited is in PostgreSQL
                await asyncio.sleep(0.02)
    finally:
        await connection.close()


def call(up: Up, method: str, path: str, token: str = "", body: Any = None) -> tuple[int, Any]:
    """As `up.call`, which knows our document alone."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = json.dumps(body).encode() if body else None
    sent = urllib.request.Request(  # noqa: S310 - our own server
        up.api + path,
        json.dumps(body).encode() if body else None,
        {"Content-Type": "application/json", **headers},
        method=method,
    )
    try:
        with urllib.request.urlopen(sent, timeout=60) as answer:  # noqa: S310 - the same
            content = answer.read()
            return answer.status, json.loads(content)["data"] if content else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]["code"]


def run(site: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(  # noqa: S603 - our own command
        command, env={"PYTHONPATH": str(site), **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def shown(site: Path) -> Any:
    """What SHOWN says, of one process for all tests."""
    ran = run(site, "-c", SHOWN, json.dumps([*FAULTS]))
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_its_actors_run_in_their_roles_and_its_job_kind_where_jobs_are_worked_on(shown: Any) -> None:
    front, streams, workers = (shown["roles"][each] for each in ("front", "streams", "workers"))
    assert front["polls"] == ["polls"]
    assert "polls.close" not in front["jobs"]
    assert {"polls", "polls.close"} <= set(front["pools"]), "every process checks the configuration of all pools"
    assert streams["polls"] == ["polls", "poll_events"]
    assert "polls.close" in workers["jobs"]
    assert "polls.votes" in workers["retention"]


def test_its_routes_stand_in_the_document_with_their_errors_and_limits(site: Path) -> None:
    ran = run(site, "-m", "callboard.ops", "openapi")
    document = json.loads(ran.stdout)
    assert {"/api/v1/polls", "/api/v1/polls/{poll_id}/votes"} <= document["paths"].keys()
    vote = document["paths"]["/api/v1/polls/{poll_id}/votes"]["post"]
    assert {"204", "401", "429"} <= vote["responses"].keys()
    assert "POLLS_TOO_MANY_OPTIONS_001" in document["components"]["examples"]
    assert "/api/v1/polls" not in json.loads(run_command("openapi").output)["paths"]


@pytest.mark.parametrize("setting", FAULTS, ids="=".join)
def test_a_setting_out_of_its_bounds_is_named_by_its_variable(shown: Any, setting: tuple[str, str]) -> None:
    assert shown["refused"][[*FAULTS].index(setting)].startswith(FAULTS[setting])


def test_a_table_without_its_package_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "callboard.toml"
    file.write_text(CONFIG.replace("[pools.polls]\nsize = 5\n", ""))
    said = run_command("config", "check", str(file))
    assert said.status == 2
    assert "polls: no package has the department polls; there are none" in said.errors


def test_its_actors_pools_and_metrics_are_in_the_running_tree(with_polls: Up) -> None:
    nodes = with_polls.nodes()
    assert {each["name"] for each in nodes["polls"]["children"]} == {"moderation", "polls", "poll_events"}
    pools = {each["name"]: each["size"] for each in with_polls.look("/ops/v1/pools")}
    assert pools["polls"] == 5, "as CALLBOARD_CONFIG says"
    assert "polls.close" in {each["kind"] for each in with_polls.look("/ops/v1/job-kinds")}


async def test_a_poll_is_opened_closed_by_its_job_and_told_of_by_its_event(with_polls: Up) -> None:
    ada = with_polls.join()
    many = call(with_polls, "POST", "/polls", ada["token"], {"question": "Which?", "options": 5})
    assert many == (400, "POLLS_TOO_MANY_OPTIONS_001")
    status, made = call(with_polls, "POST", "/polls", ada["token"], {"question": "Tea?", "options": 2})
    assert status == 201
    poll_id = made["poll_id"]
    await seen(with_polls, "select 1 from polls where closed_at is not null and poll_id = $1", poll_id)
    await seen(with_polls, "select 1 from polls where told_at is not null and poll_id = $1", poll_id)
    await seen(with_polls, "select 1 from notifications where user_id = $1::text::uuid", ada["user_id"])
    (told,) = with_polls.call("GET", "/notifications", token=ada["token"]).data
    assert (told["text"], told["link"]) == ('Your poll "Tea?" is closed.', f"/polls/{poll_id}")
    said = until("the mail", lambda: [each for each in with_polls.mails_to(ada["email"]) if "poll" in each["subject"]])
    assert f"/polls/{poll_id}" in said[0]["text"]
    chosen = with_polls.call("GET", "/notifications/preferences", token=ada["token"]).data["channels"]
    assert chosen["polls.closed"] == "mail"


async def test_votes_are_limited_exported_and_forgotten_when_their_account_is_deleted(with_polls: Up) -> None:
    ada = with_polls.join()
    _, made = call(with_polls, "POST", "/polls", ada["token"], {"question": "Tea?", "options": 2})
    path = f"/polls/{made['poll_id']}/votes"
    statuses = [call(with_polls, "POST", path, ada["token"], {"option": 1})[0] for _ in range(3)]
    assert statuses == [204, 204, 429]
    assert len(await fetch(with_polls, "select 1 from poll_votes where user_id = $1", ada["user_id"])) == 2
    assert with_polls.call("POST", "/users/me/export", token=ada["token"]).status == 202
    mails = until("the mail", lambda: [each for each in with_polls.mails_to(ada["email"]) if LINK in each["text"]])
    secret = mails[0]["text"].partition(LINK)[2].split()[0]
    answer = with_polls.call("POST", "/users/me/export/download", token=ada["token"], body={"token": secret})
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        votes = json.loads(archive.read("votes.json"))
    assert [vote["option"] for vote in votes] == [1, 1]
    assert with_polls.call("DELETE", "/users/me", token=ada["token"]).status == 204
    await seen(with_polls, "select 1 where not exists (select 1 from poll_votes where user_id = $1)", ada["user_id"])


def test_the_package_of_the_readme_answers_and_takes_its_setting(with_polls: Up) -> None:
    assert call(with_polls, "GET", "/hello/Ada") == (200, "Good evening, Ada!")
    assert {each["name"] for each in with_polls.nodes()["hello"]["children"]} == {"greeters"}


def test_an_admin_turns_its_flag_on_and_everybody_sees_it(with_polls: Up) -> None:
    admin, _, _ = with_polls.people()
    assert with_polls.call("GET", "/flags").data["polls.anonymous"] is False
    assert with_polls.call("PUT", "/flags/polls.anonymous", token=admin, body={"is_on": True}).status == 200
    assert with_polls.call("GET", "/flags").data["polls.anonymous"] is True
    assert with_polls.call("PUT", "/flags/polls.anonymous", token=admin, body={"is_on": False}).status == 200


def test_its_second_version_stands_beside_the_first_with_all_that_did_not_change(with_polls: Up) -> None:
    ada = with_polls.join()
    _, made = call(with_polls, "POST", "/polls", ada["token"], {"question": "Cake?", "options": 2})
    second = with_polls.api.replace("/v1", "/v2")
    told = {"poll_id": made["poll_id"], "question": "Cake?"}
    answers = [fetched(f"{base}/polls/{made['poll_id']}", ada["token"]) for base in (with_polls.api, second)]
    (old, old_headers), (new, new_headers) = answers
    assert old == told
    assert new["is_closed"] in (False, True)
    assert new == told | {"is_closed": new["is_closed"]}
    assert old_headers["Sunset"] == "Tue, 01 Jun 2027 00:00:00 GMT"
    assert "Sunset" not in new_headers
    assert fetched(f"{second}/users/me", ada["token"])[0]["user_id"] == ada["user_id"], "ours are in version 2 too"
    assert call(with_polls, "GET", f"/polls/{uuid4()}", ada["token"]) == (404, "POLLS_NOT_FOUND_001")


def fetched(url: str, token: str) -> tuple[Any, Any]:
    sent = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - our own server
    with urllib.request.urlopen(sent, timeout=60) as answer:  # noqa: S310 - the same
        return json.loads(answer.read())["data"], answer.headers


async def test_its_migrations_have_a_history_of_their_own(with_polls: Up) -> None:
    assert await fetch(with_polls, "select version_num from alembic_version_polls") == [("0001",)]
    facts = with_polls.facts
    status = run(
        Path(with_polls.environment["PYTHONPATH"]),
        "-m",
        "callboard.ops",
        "migrate",
        "status",
        DATABASE_URL=facts["DATABASE_URL"],
    )
    assert "package   polls: 0001" in status.stdout
    assert status.returncode == 0
    assert request("GET", with_polls.operators + "/ready").status == 200


def outcomes(up: Up) -> dict[str, float]:
    """Requests to the moderation by outcome, as Prometheus reads them."""
    page = request("GET", f"{up.operators}/metrics").body.decode()
    found = re.findall(r'^callboard_moderation_requests_total\{outcome="(\w+)"\} (\S+)$', page, re.MULTILINE)
    return {outcome: float(count) for outcome, count in found}


def test_an_outside_service_that_limits_it_costs_a_503_and_known_answers_go_on(
    with_polls: Up, moderation: tuple[Moderation, str]
) -> None:
    service, _ = moderation
    ada = with_polls.join()

    def ask(question: str) -> tuple[int, Any]:
        return call(with_polls, "POST", "/polls", ada["token"], {"question": question, "options": 2})

    assert ask("Buy spam?") == (400, "POLLS_REFUSED_001")
    assert ask("Soup & bread?")[0] == 201
    assert service.asked[-1] == ("Soup & bread?", f"Bearer {KEY}")
    service.is_limiting = True
    before = len(service.asked)
    assert [ask(f"Number {number}?") for number in range(3)] == [(503, "SERVER_UNAVAILABLE_001")] * 3
    assert len(service.asked) == before + 1, "none leaves before Retry-After"
    assert ask("Soup & bread?")[0] == 201, "its verdict is known"
    assert outcomes(with_polls)["limited"] == 3
    shown = request("GET", f"{with_polls.operators}/ops/v1/config").body
    assert KEY not in json.dumps(shown)
    assert KEY not in json.dumps(with_polls.log())

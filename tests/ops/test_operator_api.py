"""The operator plane: what it shows of the tree, the settings, the mails and the dead letters, and to whom."""

import asyncio
import base64
import http.client
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from kit.running import PASSWORD, Up, request, until

from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.infrastructure.dead_letters import DeadLetters
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.http.server.operator_access import OperatorToken
from callboard.http.server.raw_request import Settings
from callboard.http.server.routing import Routes
from callboard.ops import dead_letter_routes, operator_api
from callboard.ops.application import Application
from callboard.ops.config.configuration import load

FATES = {"handled", "failed", "expired", "dropped", "dead_lettered", "returned", "pending", "late"}
TREE = {
    "servers": {"postgres", "valkey", "broker", "mail"},
    "infrastructure": {
        "database",
        "cache",
        "limits",
        "idempotency",
        "flags",
        "audit_log",
        "audit_recorder",
        "user_jobs",
        "objects",
    },
    "identity": {
        *("passwords", "sessions", "logins", "users", "profiles", "exports", "password_reset"),
        *("email_requests", "active_users", "registrations", "user_imports"),
    },
    "editorial": {
        *("content", "content_queries", "content_search", "revisions", "deleted_content", "attachments", "uploads"),
        *("comments", "comment_queries", "comment_moderation", "categories", "tags", "feeds", "sitemaps"),
    },
    "analytics": {"aggregator", "statistics"},
    "ingestion": {"producer_keys", "event_ingestion"},
    "delivery": {
        *("notifier", "mail_queue", "notification_recorder", "notifications", "preferences"),
        *("stream_announcer", "stream_listener", "stream_watcher"),
    },
    "streams": {"streams", "relay"},
    "jobs": {
        "email_request",
        "export",
        "mail",
        "notification_digest",
        "dead_letter",
        "retention",
        "search_refill",
        "content_schedule",
        "plan_sitemap",
        "remove_category",
        "close_hours",
        "import_content",
        "import_users",
        "sweeper",
        "hints",
        "monitor",
        "schedules",
        "worker",
    },
}


def test_the_tree_has_every_part_in_its_place_and_all_run(up: Up) -> None:
    nodes = up.nodes()
    assert {path for path in nodes if "/" not in path} == {
        *(path for path in TREE if "/" not in path),
        *("front", "operators", "scaling"),
    }
    for path, children in TREE.items():
        assert {each["name"] for each in nodes[path]["children"]} == children
    assert {node["state"] for node in nodes.values()} == {"running"}


def test_every_actor_tells_its_depth_and_the_fate_of_its_messages(up: Up) -> None:
    up.register()
    for path, node in up.nodes().items():
        assert node["kind"] in {"actor", "pool", "supervisor"}
        if node["kind"] != "actor":
            continue
        assert 0 <= node["depth"] <= node["capacity"], path
        counts = node["counts"]
        assert counts.keys() >= FATES, path
        assert min(counts.values()) >= 0, path
    assert sum(nodes_counts(up)) > 0
    sizes = {each["name"]: each["size"] for each in up.look("/ops/v1/pools")}
    nodes = up.nodes()
    pools = {path.rpartition("/")[2]: node for path, node in nodes.items() if node["kind"] == "pool"}
    assert {name: len(node["children"]) for name, node in pools.items()} == sizes


def nodes_counts(up: Up) -> list[int]:
    return [node["counts"]["handled"] for path, node in up.nodes().items() if path.startswith("identity/users/")]


def test_the_settings_are_those_in_force_without_their_secrets(up: Up) -> None:
    shown, facts = up.look("/ops/v1/config"), up.facts
    assert shown["KAFKA_BROKERS"] == facts["KAFKA_BROKERS"]
    assert shown["HTTP_PORT"] == int(facts["HTTP_URL"].rpartition(":")[2])
    assert shown["JWT_SECRET_KEY"] == "***"
    text = json.dumps(shown)
    for path in (up.data / "secrets").iterdir():
        assert path.read_text() not in text


def test_the_mailbox_shows_caught_mails_newest_first(up: Up) -> None:
    first, second = up.register(), None
    up.mail_token(first["email"])
    second = up.register()
    up.mail_token(second["email"])
    mails = up.look("/ops/v1/mailbox")
    assert mails[0].keys() == {"to", "subject", "text", "html", "received_at"}
    order = [mail["to"] for mail in mails if mail["to"] in (first["email"], second["email"])]
    assert order == [second["email"], first["email"]]
    times = [mail["received_at"] for mail in mails]
    assert times == sorted(times, reverse=True)


async def send(brokers: str, topic: str, value: bytes, key: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=brokers)
    await producer.start()
    try:
        headers = [("ce_id", b"1"), ("ce_source", b"/t"), ("ce_type", b"activity.recorded"), ("ce_specversion", b"1.0")]
        await producer.send_and_wait(topic, value=value, key=key, headers=headers)
    finally:
        await producer.stop()


def test_dead_letters_show_what_came_and_why_it_was_refused_page_by_page(up: Up) -> None:
    shown = up.look("/ops/v1/config")
    topic = f"{shown['TOPIC_PREFIX']}.activity.v1"
    for value, key in ((b"\xff\x00", b"bytes"), (b"{}", b"text")):
        asyncio.run(send(shown["KAFKA_BROKERS"], topic, value, key))
    letters = until(
        "two dead letters",
        lambda: (
            len(found := {each["key"]: each for each in up.look("/ops/v1/dead-letters?limit=100")}) >= 2
            and {"bytes", "text"} <= found.keys()
            and found
        ),
    )
    assert (letters["bytes"]["value"], letters["bytes"]["value_base64"]) in (
        (None, base64.b64encode(b"\xff\x00").decode()),
        ("\ufffd\0", base64.b64encode(b"\xff\x00").decode()),
    )
    assert letters["text"]["value"] == "{}"
    for letter in letters.values():
        assert letter["topic"] == "activity.v1"
        assert letter["reason"] in {"malformed", "invalid", "unknown_type", "too_large", "expired", "refused", "failed"}
        assert letter["detail"]
    first = request("GET", f"{up.operators}/ops/v1/dead-letters?limit=1").body
    cursor = first["page"]["next_cursor"]
    second = request("GET", f"{up.operators}/ops/v1/dead-letters?limit=1&cursor={cursor}").body
    assert first["data"][0]["dead_letter_id"] != second["data"][0]["dead_letter_id"]
    bad = request("GET", f"{up.operators}/ops/v1/dead-letters?cursor=x")
    assert (bad.status, bad.code) == (400, "REQUEST_CURSOR_INVALID_006")


def test_events_that_the_broker_refuses_are_shown_with_their_reason_page_by_page(up: Up) -> None:
    waiting = """
        insert into outbox (event_id, topic, key, type, value, refusals, error, retry_at)
        select gen_random_uuid(), 'content.v1', 'refused', 'content.created', 'four', n, 'TooLarge', now() + '1 hour'
        from generate_series(1, 2) as n
    """
    gone = "delete from outbox where key = 'refused'"
    asyncio.run(execute(up, waiting))
    try:
        pages = [request("GET", f"{up.operators}/ops/v1/outbox/refused?limit=1").body]
        cursor = pages[0]["page"]["next_cursor"]
        pages.append(request("GET", f"{up.operators}/ops/v1/outbox/refused?limit=1&cursor={cursor}").body)
        first, second = (page["data"][0] for page in pages)
        assert (first["refusals"], second["refusals"]) == (1, 2)
        assert (first["topic"], first["key"], first["type"]) == ("content.v1", "refused", "content.created")
        assert (first["error"], first["bytes"]) == ("TooLarge", 4)
        assert "value" not in first
        assert pages[1]["page"]["next_cursor"] is None
        bad = request("GET", f"{up.operators}/ops/v1/outbox/refused?cursor=x")
        assert (bad.status, bad.code) == (400, "REQUEST_CURSOR_INVALID_006")
    finally:
        asyncio.run(execute(up, gone))
    assert up.look("/ops/v1/outbox/refused") == []


async def execute(up: Up, statement: str) -> None:
    connection = await asyncpg.connect(up.facts["DATABASE_URL"])
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def test_the_metrics_count_requests_and_actors_and_hold_nothing_personal(up: Up) -> None:
    account = up.join()
    up.call("GET", f"/users/{account['user_id']}", token=account["token"])
    up.call("POST", "/auth/login", body={"email": account["email"], "password": PASSWORD + "x"})
    up.call("GET", f"/no-such-route/{account['email']}")
    answer = request("GET", f"{up.operators}/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    page = answer.body.decode()
    assert re.search(
        r'request_seconds_count\{method="GET",route="/api/v1/users/\{user_id\}",status="200"\} [1-9]', page
    )
    assert re.search(r'actor_messages_total\{actor="callboard/identity/users",fate="handled"\} [1-9]', page)
    assert 'callboard_actor_restarts_total{actor="callboard/streams/relay"} 0.0' in page
    for series in (
        r'api_requests_total\{endpoint="/api/v1/users/\{user_id\}",method="GET",status="200"\} [1-9]',
        r'api_request_duration_seconds_bucket\{endpoint="/api/v1/users/\{user_id\}",le="\+Inf",method="GET"\} [1-9]',
        r'db_query_duration_seconds_count\{query_type="insert"\} [1-9]',
        r'db_query_duration_seconds_count\{query_type="select"\} [1-9]',
        r'db_connection_pool_size\{pool="requests",state="max"\} [1-9]',
    ):
        assert re.search(series, page), series
    until(
        "a count of active users", lambda: "\nactive_users " in request("GET", f"{up.operators}/metrics").body.decode()
    )
    for personal in ("@", account["user_id"], account["token"], PASSWORD, "no-such-route"):
        assert personal not in page


def test_health_and_readiness_are_on_both_listeners(up: Up) -> None:
    for base in (up.operators, up.facts["HTTP_URL"]):
        assert request("GET", f"{base}/health").data == {"status": "healthy", "state": "up"}
        ready = request("GET", f"{base}/ready").data
        assert ready["status"] == "ready"
        assert set(ready["checks"].values()) == {"healthy"}
        breakers = {name for name in ready["checks"] if name.startswith("breaker ")}
        assert ready["checks"].keys() - breakers == {"database", "redis", "kafka", "smtp", "jobs", "uploads"}
        assert bool(breakers) == (base == up.operators)


def test_the_two_listeners_do_not_serve_each_others_routes(up: Up) -> None:
    where = urlsplit(f"{up.operators}/api/v1/content")
    connection = http.client.HTTPConnection(where.netloc, timeout=10)  # not by request(): it holds /api to its document
    connection.request("GET", where.path)
    assert json.loads(connection.getresponse().read())["error"]["code"] == "ROUTE_NOT_FOUND_001"
    connection.close()
    for path in ("/ops/v1/tree", "/ops/v1/mailbox", "/metrics"):
        assert request("GET", up.facts["HTTP_URL"] + path).code == "ROUTE_NOT_FOUND_001"


@pytest.fixture
def parts(tmp_path: Path) -> Application:
    settings = {
        "DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c",
        "REDIS_URL": "redis://127.0.0.1:1",
        "KAFKA_BROKERS": "127.0.0.1:1",
        "SMTP_HOST": "127.0.0.1",
        "JWT_SECRET_KEY": "x" * 32,
        "OPS_TOKEN": "let-operators-in",
    }
    return Application(load(settings), tmp_path)


async def test_with_a_token_set_only_liveness_is_open(parts: Application) -> None:
    from callboard.http.server.raw_request import ServerDependencies  # noqa: PLC0415 - beside its one use
    from callboard.http.server.server import HttpServer  # noqa: PLC0415 - the same

    bound: list[tuple[str, int]] = []
    view = operator_api.OperatorServices(
        system=parts.running,
        reloader=parts.reloader,
        database=parts.database,
        metrics=parts.metrics,
        mails=None,
        jobs=parts.tree.background.admin,
        letters=DeadLetters(parts.database),
        flags=parts.refs(Infrastructure).flags,
        flag_keeper=parts.refs(Infrastructure).flag_keeper,
        users=parts.refs(IdentityRefs).users,
    )
    server = HttpServer(
        Routes(operator_api.OperatorServices, *operator_api.ROUTES, *dead_letter_routes.ROUTES).bind(view),
        host="127.0.0.1",
        port=0,
        checks={},
        settings=Settings(base="/ops/v1", token=OperatorToken(parts.config.ops_token)),
        dependencies=ServerDependencies(),
        documents=False,
        on_bound=lambda host, port: bound.append((host, port)),
    )
    parts.system()
    await server.on_start()
    try:
        base = f"http://127.0.0.1:{bound[0][1]}"

        async def status(path: str, token: str = "") -> int:
            return (await asyncio.to_thread(request, "GET", base + path, token=token)).status

        for path in ("/ops/v1/tree", "/ops/v1/config", "/ops/v1/dead-letters", "/metrics"):
            assert await status(path) == 401
            assert await status(path, "let-anyone-in") == 401
        for path in ("/ops/v1/tree", "/ops/v1/config", "/metrics"):
            assert await status(path, "let-operators-in") == 200
        assert await status("/ops/v1/mailbox", "let-operators-in") == 404
        assert await status("/health") == await status("/ready") == 200
    finally:
        await server.on_stop()

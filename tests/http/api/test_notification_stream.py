"""The stream of notifications as its user lives it: across processes, ends of sessions and stops, nothing missed."""

import signal
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from kit.people import Person, UserFactory
from kit.running import CallboardProcess, Up, request
from kit.sse import EventClient
from kit.twins import ProcessGroup

STREAM = "/notifications/stream"
ADD = """
with numbered as (
    insert into notification_settings as s (user_id, last_seq) values ($1, 1)
    on conflict (user_id) do update set last_seq = s.last_seq + 1 returning last_seq
)
insert into notifications (notification_id, user_id, seq, kind, data)
select $2, $1, last_seq, 'content_published', jsonb_build_object('title', $3::text) from numbered
"""


class Stage:
    """Two processes, somebody, and what is recorded for them by a third."""

    def __init__(self, pair: ProcessGroup) -> None:
        self.pair = pair
        self.people = UserFactory(pair.environment)

    def record(self, who: Person, *titles: str) -> None:
        for title in titles:
            self.pair.sql(ADD, who.user_id, uuid4(), title)

    def stream(self, who: Person, site: CallboardProcess | None = None, last: str = "", **headers: str) -> EventClient:
        client = EventClient((site or self.pair.sites[0]).api + STREAM, who.token, last, **headers)
        assert client.status == 200
        return client


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    for client in list(EventClient.opened):
        client.close()


@pytest.fixture(scope="module")
def mortals(pair: ProcessGroup) -> Iterator[list[CallboardProcess]]:
    """Two more processes, for tests that end them."""
    started = pair.start_all(2, NOTIFICATION_STREAMS_PER_USER="3")
    yield list(started)
    for site in started:
        pair.end(site)


@pytest.fixture
def stage(pair: ProcessGroup) -> Stage:
    return Stage(pair)


def titles(client: EventClient, count: int) -> list[str]:
    return [client.notification()["data"]["title"] for _ in range(count)]


def test_what_happens_to_an_article_comes_to_its_author_s_stream_and_list(up: Up) -> None:
    _, editor, author = up.people()
    client = EventClient(up.api + STREAM, author, Accept_Encoding="gzip, br")
    assert client.headers["content-type"] == "text/event-stream"
    assert (client.headers["x-accel-buffering"], client.headers["cache-control"]) == ("no", "no-store, no-transform")
    assert client.headers["x-content-type-options"] == "nosniff"
    assert not {"content-length", "content-encoding"} & client.headers.keys()
    ready = client.next()
    assert ready is not None
    assert (ready.name, ready.data["is_resumed"]) == ("ready", False)
    assert 1_000 <= client.retry_ms <= 5_000
    content = up.call("POST", "/content", token=author, body={"title": "Lanterns", "body": "b"}).data["content_id"]
    for action, token in (("submit_for_review", author), ("approve", editor), ("publish", editor)):
        step = up.call("POST", f"/content/{content}/transitions", token=token, body={"action": action})
        assert step.status == 200
    told = client.notification()
    assert (told["text"], told["link"]) == ('"Lanterns" is published.', f"/content/{content}")
    listed = up.call("GET", "/notifications?unread=true", token=author)
    assert told in listed.data
    tag = {"If-None-Match": listed.headers["ETag"]}
    assert request("GET", f"{up.api}/notifications?unread=true", token=author, headers=tag).status == 304
    before = up.call("GET", "/notifications/unread-count", token=author).data["unread"]
    for _ in range(2):
        read = up.call("POST", f"/notifications/{told['notification_id']}/read", token=author)
        assert read.data["read_at"] is not None
    assert up.call("GET", "/notifications/unread-count", token=author).data["unread"] == before - 1
    assert request("GET", f"{up.api}/notifications?unread=true", token=author, headers=tag).status == 200
    client.close()


def test_a_client_goes_on_at_another_process_after_its_own_was_killed(
    stage: Stage, mortals: list[CallboardProcess]
) -> None:
    ada, eve = (stage.people.person("member") for _ in range(2))
    mortal = mortals.pop()
    client = stage.stream(ada, mortal)
    assert client.next() is not None
    stage.record(ada, "1", "2")
    stage.record(eve, "hers")
    assert titles(client, 2) == ["1", "2"]
    mortal.kill()
    assert client.read_to_the_end() == []
    assert not client.is_whole
    stage.record(ada, "3", "4")
    again = stage.stream(ada, last=client.last_event_id)
    ready = again.next()
    assert ready is not None
    assert ready.data["is_resumed"]
    assert titles(again, 2) == ["3", "4"]
    stage.record(ada, "5")
    assert titles(again, 1) == ["5"]
    again.close()
    for last in (stage.stream(eve).last_event_id, "junk", "5.000000000000"):
        foreign = stage.stream(ada, last=last)
        started = foreign.next()
        assert started is not None
        assert not started.data["is_resumed"], "the id of another's event is no position of one's own"
        stage.record(ada, last)
        assert titles(foreign, 1) == [last]
        foreign.close()


@pytest.mark.parametrize("how", ["logout", "ban"])
def test_the_end_of_a_session_ends_its_streams_in_every_process_in_order(stage: Stage, how: str) -> None:
    ada, admin = stage.people.person("member"), stage.people.person("admin")
    clients = [stage.stream(ada, site) for site in stage.pair.sites[:2]]
    for client in clients:
        assert client.next() is not None
    site = stage.pair.sites[0]
    if how == "logout":
        assert site.call("POST", "/auth/logout", token=ada.token).status == 204
    else:
        stage.pair.sql("update sessions set proved_at = now() where session_id = $1", admin.session_id)
        changed = site.call("PATCH", f"/users/{ada.user_id}", token=admin.token, body={"is_active": False})
        assert changed.status == 200, changed
    for client in clients:
        assert client.read_to_the_end() == []
        assert client.is_whole
    assert EventClient(site.api + STREAM, ada.token).status == 401


def test_one_user_has_so_many_streams_and_a_closed_one_makes_room_and_a_stop_ends_all_in_order(
    stage: Stage, mortals: list[CallboardProcess]
) -> None:
    ada = stage.people.person("member")
    site = mortals.pop()
    clients = [stage.stream(ada, site) for _ in range(3)]
    refused = EventClient(site.api + STREAM, ada.token)
    assert (refused.status, refused.headers["retry-after"]) == (429, "10")
    for client in clients:
        assert client.next() is not None
    clients[0].close()
    while (again := EventClient(site.api + STREAM, ada.token)).status != 200:
        again.close()
    page = request("GET", f"{site.operators}/metrics", token=site.environment["OPS_TOKEN"]).body
    assert "callboard_notification_streams 3.0" in str(page)
    assert 'callboard_notification_streams_refused_total{bound="user"}' in str(page)
    site.signal(signal.SIGTERM)
    assert site.wait() == 0
    for client in clients[1:]:
        assert client.read_to_the_end() == []
        assert client.is_whole


def test_head_opens_no_stream_and_a_time_limit_of_the_client_s_own_ends_one(stage: Stage) -> None:
    ada = stage.people.person("member")
    site = stage.pair.sites[0]
    for _ in range(12):  # more than a user may have open
        assert request("HEAD", site.api + STREAM, token=ada.token).status == 200
    client = stage.stream(ada, X_Request_Timeout="0.1")
    events: list[Any] = client.read_to_the_end()
    assert [event.name for event in events] == ["ready"]
    assert client.is_whole


def test_each_of_many_streams_of_a_process_gets_its_user_s_alone(stage: Stage) -> None:
    people = [stage.people.person("member") for _ in range(8)]
    clients = [stage.stream(who, site) for who in people for site in stage.pair.sites[:2]]
    for number, who in enumerate(people):
        stage.record(who, str(number))
    assert [titles(client, 1) for client in clients] == [[str(number // 2)] for number in range(16)]
    for client in clients:
        client.close()

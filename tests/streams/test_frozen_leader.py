"""Two processes, one of which publishes: when that is frozen the other does, and it marks nothing once it is thawed."""

import re
import signal
from typing import Any
from uuid import uuid4

from kit.running import CallboardProcess, Up, until
from kit.twins import ProcessGroup, twins

TAKEN_OVER_S = 20.0  # 5 s are promised; the rest is for this machine
SPY = (
    "create table marks (backend integer)",
    (
        "create function note_mark() returns trigger language plpgsql as "
        "$$ begin insert into marks (backend) values (pg_backend_pid()); return null; end $$"
    ),
    "create trigger note_mark after update on outbox for each row execute function note_mark()",
)
EVENT = """
insert into outbox (event_id, topic, key, type, value)
select gen_random_uuid(), 'content.v1', $1, 'content.published', '{}' from generate_series(1, 5)
"""
PENDING = "select count(*) as n from outbox where published_at is null"
LEASE = "select fence, holder from leases where name = 'relay' and expires_at > now()"
MARKERS = "select distinct backend from marks order by 1"


def publish(pair: ProcessGroup) -> set[Any]:
    """The sessions that marked rows while some more events were published."""
    pair.sql("truncate marks")
    pair.sql(EVENT, str(uuid4()))
    until("all to be published", lambda: pair.sql(PENDING)[0]["n"] == 0, TAKEN_OVER_S)
    return {row["backend"] for row in pair.sql(MARKERS)}


def leader(pair: ProcessGroup) -> tuple[CallboardProcess, int]:
    """The process that publishes, and its fence."""
    lease = until("a leader", lambda: next(iter(pair.sql(LEASE)), None), TAKEN_OVER_S)
    pid = int(re.sub(r".*:", "", lease["holder"]))
    return next(site for site in pair.sites if site.pid == pid), lease["fence"]


def test_another_process_publishes_while_the_leader_is_frozen_which_marks_nothing_once_it_is_thawed(up: Up) -> None:
    with twins(up, ROLES="front,streams") as pair:
        for statement in SPY:
            pair.sql(statement)
        frozen, fence = leader(pair)
        old_sessions = publish(pair)
        frozen.signal(signal.SIGSTOP)
        try:
            new_sessions = publish(pair)
            now_leads, new_fence = leader(pair)
            assert now_leads is not frozen
            assert new_fence > fence
            assert not new_sessions & old_sessions
            pair.sql("truncate marks")
            pair.sql(EVENT, "thawed")  # there is work for both
        finally:
            frozen.signal(signal.SIGCONT)
        until("its word that it leads no more", lambda: "the relay lost its lease" in frozen.errors, TAKEN_OVER_S)
        assert publish(pair) == new_sessions
        assert leader(pair) == (now_leads, new_fence)

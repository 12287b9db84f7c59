"""A scheduled publication outlives every process: it is in the database, and whoever runs at its time makes it once."""

import signal
from datetime import UTC, datetime, timedelta
from uuid import UUID

from kit.people import UserFactory
from kit.running import Up, until
from kit.twins import ProcessGroup, twins


def approve(group: ProcessGroup, content_id: UUID) -> None:
    group.sql("update content set status = 'approved', version = version + 1 where content_id = $1", content_id)


def test_a_scheduled_publication_survives_sigkill_of_every_process(up: Up) -> None:
    with twins(up, 2, ROLES="front,workers") as group:
        people = UserFactory(group.environment)
        editor = people.person("editor")
        content_id = people.draft(people.person("member"))
        approve(group, content_id)
        publish_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        scheduled = group.sites[0].call(
            "POST",
            f"/content/{content_id}/transitions",
            token=editor.token,
            body={"action": "publish", "publish_at": publish_at},
        )
        assert (scheduled.status, scheduled.data["status"]) == (200, "approved")
        assert datetime.fromisoformat(scheduled.data["publish_at"]) == datetime.fromisoformat(publish_at)
        assert group.sites[1].call("GET", f"/content/{content_id}").status == 404
        for site in list(group.sites):
            site.signal(signal.SIGKILL)
            site.process.wait()
        group.sites.clear()
        group.sql("update content set publish_at = now()")  # the hour passes while nothing runs
        group.sql("update jobs set run_at = now() where kind = 'content_schedule'")
        group.start_all(2)
        site = group.sites[0]
        until("the publication", lambda: site.call("GET", f"/content/{content_id}").status == 200)
        told = group.sql("select type from outbox where key = $1 and type = 'content.published'", str(content_id))
        assert len(told) == 1
        assert group.sql("select action, actor_id from content_transitions where action = 'publish'") == [
            {"action": "publish", "actor_id": editor.user_id}
        ]
        assert group.sql("select job_id from jobs where kind = 'content_schedule'") == []

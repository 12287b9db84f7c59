"""A dead mail among the dead letters: shown with the server's words, and sent once when the server takes it."""

import json

from kit.domain import Domain
from kit.mail_post import misbehaving

from callboard.actors.infrastructure.dead_jobs import JobLetters
from callboard.actors.infrastructure.dead_letters import DeadLetterFilter, DeadLetters
from callboard.actors.infrastructure.job_admin import JobAdmin


async def test_a_dead_mail_is_listed_with_its_reason_and_sent_once_when_it_is_replayed(domain: Domain) -> None:
    async with misbehaving(domain, RCPT="550 no such user here") as (post, script):
        letters = DeadLetters(domain.database, JobLetters(JobAdmin(domain.database, post.jobs)))
        mail_id = await post.ready()
        await post.send(mail_id)
        (dead,) = await letters.page(DeadLetterFilter("job", "mail"), limit=10)
        assert "550" in dead.detail
        assert (dead.state, dead.attempts, dead.replays) == ("waiting", 1, 0)
        assert json.loads(dead.value or "") == {"mail_id": str(mail_id)}
        assert (await letters.replay([dead.id], per_second=10.0)).changed == 1
        await post.send()
        (again,) = await letters.page(DeadLetterFilter("job", "mail"), limit=10)
        assert (again.replays, "550" in again.detail) == (1, True)
        script.answers |= {"RCPT": "250 ok"}
        for changed in (1, 0):
            assert (await letters.replay([again.id], per_second=10.0)).changed == changed
            await post.send()
        assert (await post.row(mail_id))["status"] == "sent"
        assert len(script.bodies) == 1

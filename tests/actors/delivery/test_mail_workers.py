"""Mail workers are replaced after a number of mails, or when the process has grown; no mail is lost or sent twice."""

import re

import pytest
from kit.domain import Domain
from kit.mail_post import misbehaving

from callboard.actors.delivery.mail_sender import MailSender
from callboard.actors.infrastructure import worker_renewal
from callboard.actors.infrastructure.worker_renewal import RenewalLimits, WorkerLife, resident_bytes

MB = 1 << 20


def test_a_worker_lives_for_so_many_jobs() -> None:
    life = WorkerLife(RenewalLimits(jobs=3))
    assert [life.end_job() for _ in range(3)] == [None, None, "3 jobs"]
    endless = WorkerLife(RenewalLimits())
    assert not any(endless.end_job() for _ in range(10_000))


def test_a_worker_lives_until_the_process_has_grown_by_so_much_since_it_began() -> None:
    held = [100 * MB]
    life = WorkerLife(RenewalLimits(growth_bytes=10 * MB), lambda: held[0])
    held[0] = 110 * MB
    assert life.end_job() is None
    held[0] += 1
    assert life.end_job() == "10 MB of growth, after 2 jobs"
    assert WorkerLife(RenewalLimits(growth_bytes=10 * MB), lambda: held[0]).end_job() is None


def test_the_memory_of_this_process_is_read() -> None:
    assert 10 * MB < resident_bytes() < 100_000 * MB


@pytest.mark.parametrize("limits", [RenewalLimits(jobs=2), RenewalLimits(growth_bytes=MB)], ids=["jobs", "growth"])
async def test_many_mails_are_sent_once_each_by_workers_that_are_replaced(
    domain: Domain, monkeypatch: pytest.MonkeyPatch, limits: RenewalLimits
) -> None:
    begun, held = [], [0]
    start = MailSender.__init__

    def counted(*values: object, **named: object) -> None:
        begun.append(1)
        start(*values, **named)  # type: ignore[arg-type] - as they came

    def growing() -> int:
        held[0] += MB // 3
        return held[0]

    monkeypatch.setattr(MailSender, "__init__", counted)
    monkeypatch.setattr(WorkerLife.__init__, "__defaults__", (growing,))
    async with misbehaving(domain) as (post, script):
        post.renewal = limits
        for n in range(40):
            await post.ready(subject=f"mail {n}")
        await post.send()
        assert await domain.value("select count(*) from mails where status = 'sent'") == 40
        found = sorted(int(number) for body in script.bodies for number in re.findall(rb"Subject: mail (\d+)", body))
        assert found == list(range(40))
        assert len(begun) >= 15
        assert script.connections >= len(begun) - 5  # a worker's connection ends with it
    assert worker_renewal.resident_bytes() > 0

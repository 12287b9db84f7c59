"""Drills of the alerts: each brings the parts of a real application into the state that its alert is about.

Its page of metrics is recorded step by step, a minute apart, as Prometheus would scrape it, and promtool judges by
these series. Memory and file descriptors alone are not used up: their numbers are put into the page.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from callboard.actors.delivery.mail_queue import SEND_MAIL
from callboard.actors.infrastructure.job_monitor import KindDepth
from callboard.ops.application import Application
from callboard.ops.tree_metrics import TreeCollector
from callboard.runtime import Actor, Backoff, Intensity, Message, Span, SpanKind, System, on, supervisor, worker

STEP_S, HEALTHY_STEPS, FAULTY_STEPS = 60, 4, 13
Step = Callable[["Stage"], Awaitable[None] | None]
TRACE = f"00-{'1' * 32}-{'2' * 16}-01"


class Fail(Message, frozen=True):
    pass


class Wait(Message, frozen=True):
    pass


class Weak(Actor[Fail | Wait]):
    @on(Fail)
    async def fail(self, _message: Fail) -> None:
        raise LookupError

    @on(Wait)
    async def wait(self, _message: Wait) -> None:
        await asyncio.Event().wait()


class Stage:
    """An application without servers, whose parts a drill drives; `weak` is an actor of a running system of its own."""

    def __init__(self, app: Application, weak: Any) -> None:
        self.app = app
        self.weak = weak
        self.scaled: dict[str, float] = {}

    def page(self) -> str:
        """The metrics, as they are served."""
        page = self.app.metrics.page().decode()
        for name, value in self.scaled.items():
            page = re.sub(rf"^{name} \S+$", f"{name} {value}", page, flags=re.MULTILINE)
        return page

    def healthy(self) -> None:
        """What goes on all the time."""
        for _ in range(50):
            self.app.metrics.observe("/api/v1/content", "GET", 200, 0.01)
            self.app.metrics.observe_query(Statement("select 1 from content", 0.002))
        self.app.database.available.set()
        self.app.database.server.skew_s = 0.01
        streams = self.app.tree.streams.metrics
        streams.relay_leads, streams.oldest_pending_s, streams.waiting_rows = True, 0.2, 0
        streams.set_lag("users.v1", 0, 0, 0)
        self.app.tree.background.depths.kinds = {"mail": KindDepth()}
        self.app.tree.background.depths.alarms = {SEND_MAIL.name: SEND_MAIL.alarm_s}
        self.app.tree.background.depths.retention = {"sessions": 60.0}


class Statement:
    """A statement as asyncpg reports it."""

    def __init__(self, query: str, elapsed: float) -> None:
        self.query, self.elapsed, self.exception = query, elapsed, None


@asynccontextmanager
async def stage(app: Application) -> AsyncIterator[Stage]:
    """A stage on the running loop."""
    weak = worker("weak", Weak, backoff=Backoff(initial_s=0.001, max_s=0.001))
    tree = supervisor("callboard", weak, intensity=Intensity(restarts=1_000, window_s=60))
    async with System(tree, stall_after_s=0.1, log=False) as system:
        collector = TreeCollector(system)
        app.metrics.registry.register(collector)
        try:
            yield Stage(app, weak)
        finally:
            app.metrics.registry.unregister(collector)


def fail_some(on: Stage) -> None:
    on.app.metrics.observe("/api/v1/content", "GET", 503, 0.01)


def answer_slowly(on: Stage) -> None:
    for _ in range(50):
        on.app.metrics.observe("/api/v1/content", "GET", 200, 0.4)


def run_slow_statements(on: Stage) -> None:
    for _ in range(50):
        on.app.metrics.observe_query(Statement("select 1 from content", 0.2))


def refuse_connections(on: Stage) -> None:
    for _ in range(100):
        on.app.metrics.count_closed("address")


def refuse_statements(on: Stage) -> None:
    for _ in range(3):
        on.app.metrics.count_database_error("unmendable", "42501")


def open_breaker(on: Stage) -> None:
    (breaker,) = [each for each in on.app.tree.breakers if each.name == "smtp"]
    breaker.failed(time.monotonic() + 60, "away")


async def crash(on: Stage) -> None:
    for _ in range(2):
        on.weak.tell_nowait(Fail())
        await until(lambda: on.weak.counts().pending == 0)


async def hang(on: Stage) -> None:
    if not on.weak.counts().pending:
        on.weak.tell_nowait(Wait())
        await asyncio.sleep(0)
        on.weak.tell_nowait(Wait())
    on.weak.since -= STEP_S  # a minute passes


async def block_loop(on: Stage) -> None:
    if on.app.metrics.registry.get_sample_value("callboard_loop_lag_max_seconds", {}) in (None, 0.0):
        await asyncio.sleep(0.05)
        time.sleep(0.7)  # noqa: ASYNC251 - it is the drill
        await asyncio.sleep(0.2)


def stand_still(on: Stage) -> None:
    streams = on.app.tree.streams.metrics
    streams.set_lag("users.v1", 0, 7, 0)
    lag = streams.lag["users.v1", 0]
    lag.stalled_since = (lag.stalled_since or 0.0) - STEP_S


def lose_spans(on: Stage) -> None:
    for _ in range(on.app.tracing.most + 1):
        on.app.tracing.record(Span("work", SpanKind.INTERNAL, TRACE, None, 1, {}))


def queue(kind: str, **depth: Any) -> Step:
    return lambda on: on.app.tree.background.depths.kinds.update({kind: KindDepth(**depth)})


def scale(**values: float) -> Step:
    return lambda on: on.scaled.update(values)


def purge_late(on: Stage) -> None:
    on.app.tree.background.depths.retention["sessions"] = 3 * 86_400.0


def lose_database(on: Stage) -> None:
    on.app.database.available.clear()


def skew_clock(on: Stage) -> None:
    on.app.database.server.skew_s = -6.5


def publish_nothing(on: Stage) -> None:
    on.app.tree.streams.metrics.oldest_pending_s = 45.0


def lose_lease(on: Stage) -> None:
    on.app.tree.streams.metrics.relay_leads = False


def refuse_events(on: Stage) -> None:
    on.app.tree.streams.metrics.waiting_rows = 2


def dead_letter(on: Stage) -> None:
    on.app.tree.streams.metrics.dead_letters["users.v1", "malformed"] += 1


def lose_mail(on: Stage) -> None:
    on.app.metrics.count_mail("dead", "refused")


# What happens between two scrapes while each alert's trouble lasts.
DRILLS: dict[str, Step] = {
    "CallboardErrors": fail_some,
    "CallboardSlow": answer_slowly,
    "CallboardConnectionsRefused": refuse_connections,
    "CallboardDatabaseDown": lose_database,
    "CallboardSlowStatements": run_slow_statements,
    "CallboardDatabaseErrors": refuse_statements,
    "CallboardClockSkew": skew_clock,
    "CallboardRetentionLate": purge_late,
    "CallboardBreakerOpen": open_breaker,
    "CallboardMailsDie": lose_mail,
    "CallboardLoopLag": block_loop,
    "CallboardMemory": scale(process_resident_memory_bytes=500e6),
    "CallboardDescriptors": scale(process_open_fds=900.0, process_max_fds=1024.0),
    "CallboardActorRestarts": crash,
    "CallboardMailboxWaits": hang,
    "CallboardJobsLate": queue("mail", waiting=3, oldest_s=4000.0),
    "CallboardDeadJobs": queue("mail", dead=1),
    "CallboardUnknownJobs": queue("poll", waiting=1, unclaimed=True),
    "CallboardPartitionStandsStill": stand_still,
    "CallboardNothingPublished": publish_nothing,
    "CallboardNobodyPublishes": lose_lease,
    "CallboardEventsRefused": refuse_events,
    "CallboardDeadLetters": dead_letter,
    "CallboardSpansLost": lose_spans,
}


async def record(on: Stage, step: Step, names: Iterable[str]) -> dict[str, list[float | None]]:
    """The series of these metrics, as selectors, through some minutes of health and then of trouble."""
    series: dict[str, list[float | None]] = {}
    wanted = set(names)
    for number in range(HEALTHY_STEPS + FAULTY_STEPS):
        on.healthy()  # in the second part all but the trouble goes on
        if number >= HEALTHY_STEPS and (done := step(on)) is not None:
            await done
        take(series, on.page(), wanted, number)
    return series


def take(series: dict[str, list[float | None]], page: str, wanted: set[str], number: int) -> None:
    """Add a scrape to the series."""
    lines = [line for line in page.splitlines() if line.partition("{")[0].partition(" ")[0] in wanted]
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            if sample.name in wanted:
                labels = {**sample.labels, "instance": "a:9000", "job": "callboard"}
                told = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
                values = series.setdefault(f"{sample.name}{{{told}}}", [])
                values += [None] * (number - len(values)) + [sample.value]


async def until(seen: Callable[[], bool]) -> None:
    """Let the loop go on until there is something to see."""
    async with asyncio.timeout(60):
        while not seen():  # noqa: ASYNC110 - counts have no signal
            await asyncio.sleep(0)

"""The workflow as a state machine: whatever several people do at once, in two processes, it is as if they had come one
after the other, and the article, its history, its revisions and its events agree.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kit.article import ROUND, TIMES, TRANSITION_RULES, Model, Step, explain
from kit.domain import Domain
from kit.property_examples import examples

from callboard.actors.editorial.content_cache import ContentCache
from callboard.actors.editorial.scheduled_publishing import RunSchedule, ScheduledPublisher
from callboard.actors.editorial.workflow import (
    Change,
    Content,
    DeleteContent,
    Draft,
    EditContent,
    RestoreRevision,
    ScheduleContent,
    TransitionContent,
    UndeleteContent,
)
from callboard.actors.editorial.workflow_rules import Action
from callboard.actors.errors import Problem
from callboard.actors.infrastructure.database import Database
from callboard.actors.infrastructure.job_kinds import Job
from callboard.actors.infrastructure.principals import Principal, Role

PUBLISH_AT = datetime.now(UTC) + timedelta(days=1)
EXPIRE_AT = PUBLISH_AT + timedelta(days=1)
DUE = {
    "publish due": "update content set publish_at = now() - interval '1 s' where publish_at is not null",
    "all due": "update content set publish_at = case when publish_at is not null then now() - interval '2 s' end, "
    "expire_at = now() - interval '1 s' where expire_at is not null",
}
FACTS = """
    select status, version, revision, title, last_edited_by, publish_at is not null as publish_at,
           expire_at is not null as expire_at, deleted_at is not null as deleted,
           (select count(*) from content_revisions r where r.content_id = c.content_id) as stored
    from content c
"""


def message(content_id: UUID, version: int, step: Step, caller: Principal) -> Change:
    if step.name in TRANSITION_RULES:
        return TransitionContent(content_id, Action(step.name), None, caller)
    made: dict[str, Change] = {
        "edit stale": EditContent(content_id, Draft(step.text, "b"), version - 1, caller),
        "first revision": RestoreRevision(content_id, 1, None, caller),
        "schedule": ScheduleContent(content_id, PUBLISH_AT, EXPIRE_AT, None, caller),
        "unschedule": ScheduleContent(content_id, None, None, None, caller),
        "delete": DeleteContent(content_id, caller),
        "undelete": UndeleteContent(content_id, caller),
    }
    return made.get(step.name) or EditContent(content_id, Draft(step.text, "b"), None, caller)


async def taken(ask: Any) -> bool:
    try:
        await ask
    except Problem:
        return False
    return True


class Holder:
    """A process that holds a job."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @asynccontextmanager
    async def finish(self, jobs: tuple[Job[Any], ...]) -> AsyncIterator[tuple[Any, frozenset[int]]]:
        """End the job, and commit its effect with that."""
        async with self.database.transaction() as connection:
            await connection.execute("delete from jobs where job_id = $1", jobs[0].job_id)
            yield connection, frozenset({jobs[0].job_id})


class Machine:
    """An article, the people who change it in two processes, and the model of it."""

    def __init__(self, domains: tuple[Domain, Domain], people: dict[str, Principal], content: Content) -> None:
        self.domains = domains
        self.people = people
        self.names = {person.user_id: name for name, person in people.items()}
        self.content_id = content.content_id
        self.written = 0

    async def play(self, model: Model, steps: list[Step]) -> Model:
        """Take the steps at once; return the model after them."""
        if steps[0].name in TIMES:
            await self.domains[0].execute(DUE[steps[0].name])
            await self.domains[0].execute("update jobs set run_at = now() - interval '1 s'")
            await self.run_schedule()
            model.pass_time(steps[0].name)
            possible = [model]
        else:
            asks = [
                self.domains[nth % 2].content.ask(message(self.content_id, model.version, step, self.people[step.who]))
                for nth, step in enumerate(steps)
            ]
            possible = explain(model, steps, await asyncio.gather(*map(taken, asks)))
        facts, events, history = await self.facts()
        for each in possible:
            if (each.facts(), each.events, each.history) == (facts, events, history):
                return each
        raise AssertionError(f"after {model.facts()} no order of {steps} leads to {facts}, {events}, {history}")

    async def run_schedule(self) -> None:
        """Run the job of the schedule, if there is one, as its holder does."""
        row = await self.domains[0].rows("select job_id, payload::text from jobs where kind = 'content_schedule'")
        if row:
            payload = msgspec.json.decode(row[0]["payload"], type=RunSchedule)
            holder = Holder(self.domains[0].database)
            job = Job(row[0]["job_id"], 1, payload, 1, 1, PUBLISH_AT, None, None, holder)
            cache = ContentCache(self.domains[0].database, self.domains[0].cache)
            assert await ScheduledPublisher(self.domains[0].jobs, cache).make_due(job) is None

    async def facts(self) -> tuple[tuple[object, ...], list[tuple[str, int]], list[tuple[str, str, str]]]:
        (row,) = await self.domains[0].rows(f"{FACTS} where content_id = $1", self.content_id)
        assert row["stored"] == row["revision"] - 1
        facts = {**row, "last_edited_by": self.names[row["last_edited_by"]]}
        facts.pop("stored")
        told = await self.domains[0].rows(
            "select type, value from outbox where key = $1 order by outbox_id", str(self.content_id)
        )
        steps = await self.domains[0].rows(
            "select action, from_status, to_status from content_transitions where content_id = $1 "
            "order by transition_id",
            self.content_id,
        )
        return (
            tuple(facts.values()),
            [(event["type"], msgspec.json.decode(event["value"])["version"]) for event in told],
            [tuple(step.values()) for step in steps],  # type: ignore[misc]  # of three columns
        )

    def steps(self, drawn: list[tuple[str, str]], model: Model) -> list[Step]:
        """Give every edit a text of its own, but those that write what is there."""
        made = []
        for name, who in drawn:
            self.written += 1
            made.append(Step(name, who, model.texts[-1] if name == "edit to same" else f"Text {self.written}"))
        return made


@settings(settings.get_profile("actors"), max_examples=examples(30))
@given(st.lists(ROUND, min_size=4, max_size=12), st.booleans())
@example(
    [
        [("submit_for_review", "author")],
        [("approve", "editor")],
        [("schedule", "editor")],
        [("publish due", "nobody")],
        [("all due", "nobody")],
    ],
    False,
)
async def test_whatever_is_done_at_once_is_as_if_one_had_come_after_the_other(
    domain: Domain, other: Domain, rounds: list[list[tuple[str, str]]], author_is_editor: bool
) -> None:
    people = {
        "author": await domain.person(Role.EDITOR if author_is_editor else Role.MEMBER),
        "editor": await domain.person(Role.EDITOR),
        "second editor": await domain.person(Role.EDITOR),
        "stranger": await domain.person(),
    }
    content = await domain.draft(people["author"], "First", "b")
    model = Model("First", author_is_editor=author_is_editor)
    machine = Machine((domain, other), people, content)
    for drawn in rounds:
        model = await machine.play(model, machine.steps(drawn, model))
    await domain.execute("delete from jobs")

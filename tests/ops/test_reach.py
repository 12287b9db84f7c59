"""Reach: no actor, offer, consumer or check holds a reference to an actor that runs in fewer processes than itself."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from kit.quiz import Nothing, Ping, Pong, QuizRefs

from callboard.actors.department import AnyDepartment, Branch, Child, Department, Role
from callboard.actors.infrastructure.job_kinds import JobHandler, JobKind, job_pool
from callboard.ops.departments import CompositionError, build, declared_by
from callboard.runtime import Actor, KeyedProps, Node, Props, entities, on, pool, supervisor, worker
from callboard.streams.consumers import Consumer


def department(build: Callable[[Any, Any], Branch[Any]], **options: Any) -> AnyDepartment:
    return Department(name="quiz", settings=Nothing, needs=Nothing, offers=QuizRefs, build=build, **options)


def composed(department: AnyDepartment) -> None:
    """Build the department. Raises CompositionError."""
    clients: Any = None
    build([department], {"quiz": Nothing()}, clients, declared_by([department]))


def test_an_offered_reference_to_what_does_not_run_everywhere_is_refused() -> None:
    def made(_settings: Any, _needs: Any) -> Branch[Any]:
        node = worker("quiz", Props(Pong))
        return Branch(refs=QuizRefs(node), children=(Child(node, Role.WORKERS),))

    reason = (
        "quiz: the offer quiz runs in every process and holds a reference to quiz/quiz, which runs only with the role"
    )
    with pytest.raises(CompositionError, match=reason):
        composed(department(made))


class Asking(Actor[Ping]):
    """An actor that was given whatever the test gives it."""

    def __init__(self, held: object, *, key: object = None) -> None:
        self.held = (held, key)

    @on(Ping)
    async def pong(self, _message: Ping) -> str:
        return "asked"


class Helper:
    """An object of a class that the composition does not know."""

    def __init__(self, ref: object) -> None:
        self._ref = ref

    def ask(self) -> object:
        return self._ref


class Slotted:
    __slots__ = ("ref",)

    def __init__(self, ref: object) -> None:
        self.ref = ref


# How an actor may be given a reference.
HIDDEN: dict[str, Callable[[Any], object]] = {
    "itself": lambda ref: ref,
    "in a Struct": QuizRefs,
    "in a mapping": lambda ref: {"by name": [ref]},
    "in an object": Helper,
    "in slots": Slotted,
    "by a method": lambda ref: Helper(ref).ask,
    "by a partial": lambda ref: partial(print, ref),
    "by a closure": lambda ref: lambda: ref,
}


def asks(role: Role | None, target_role: Role | None, hide: Callable[[Any], object]) -> AnyDepartment:
    """A department with an actor of one role that holds a reference to an actor of another."""

    def made(_settings: Any, _needs: Any) -> Branch[Any]:
        target, offered = worker("target", Props(Pong)), worker("quiz", Props(Pong))
        asking = worker("asking", Props(Asking, "x", key=hide(target)))
        return Branch(
            refs=QuizRefs(offered), children=(Child(target, target_role), Child(asking, role), Child(offered))
        )

    return department(made)


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize(("role", "runs"), [(None, "in every process"), (Role.FRONT, "with the role front")])
def test_an_actor_may_not_hold_a_reference_to_one_that_runs_in_fewer_processes(
    role: Role | None, runs: str, hide: Callable[[Any], object]
) -> None:
    reason = f"quiz: asking runs {runs} and holds a reference to quiz/target, which runs only with the role workers"
    with pytest.raises(CompositionError, match=reason):
        composed(asks(role, Role.WORKERS, hide))


@pytest.mark.parametrize(("role", "target"), [(None, None), (Role.FRONT, None), (Role.WORKERS, Role.WORKERS)])
def test_an_actor_may_hold_a_reference_to_one_that_runs_wherever_it_does(
    role: Role | None, target: Role | None
) -> None:
    composed(asks(role, target, HIDDEN["itself"]))


def test_neither_pools_entities_nor_supervisors_hide_a_reference_that_is_out_of_reach() -> None:
    target = worker("target", Props(Pong))
    nodes = (
        pool("asking", Props(Asking, target), size=2),
        supervisor("asking", worker("inner", Props(Asking, target))),
        entities("asking", KeyedProps(Asking, key=target), key=lambda message: message, idle_s=1, limit=1),
    )
    for node in nodes:

        def made(_settings: Any, _needs: Any, node: Node = node) -> Branch[Any]:
            offered = worker("quiz", Props(Pong))
            children = (Child(offered), Child(supervisor("below", target), Role.WORKERS), Child(node))
            return Branch(refs=QuizRefs(offered), children=children)

        with pytest.raises(CompositionError, match="quiz: asking runs in every process and holds a reference to"):
            composed(department(made))


def test_the_pool_of_a_kind_of_jobs_is_reached_by_jobs_alone() -> None:
    mark = JobKind("quiz.mark", Nothing)

    def made(_settings: Any, _needs: Any) -> Branch[Any]:
        handler: JobHandler[Any] = job_pool(mark, Props(Pong))
        node = worker("quiz", Props(Asking, handler))
        return Branch(refs=QuizRefs(node), children=(Child(node),), jobs=(handler,))

    with pytest.raises(CompositionError, match=r"quiz runs in every process and holds a reference to quiz/quiz\.mark"):
        composed(department(made, jobs=(mark,)))


def test_a_consumer_must_run_where_events_are_read() -> None:
    for role, fits in ((None, True), (Role.STREAMS, True), (Role.WORKERS, False)):

        def made(_settings: Any, _needs: Any, role: Role | None = role) -> Branch[Any]:
            offered, node = worker("quiz", Props(Pong)), worker("events", Props(Pong))
            consumers = (Consumer("quiz", (), (), node),)  # type: ignore[arg-type]
            return Branch(refs=QuizRefs(offered), children=(Child(offered), Child(node, role)), consumers=consumers)

        with (
            nullcontext() if fits else pytest.raises(CompositionError, match="the consumer quiz runs with the role str")
        ):
            composed(department(made))

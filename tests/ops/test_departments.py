"""How departments fit together: order, clashes, needs, reach, and entry points that cannot be used."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.metadata import EntryPoint
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from callboard.actors.department import AnyDepartment, Branch, Child, Department, Role
from callboard.actors.errors import ERRORS, ErrorCode, ErrorKind
from callboard.actors.infrastructure.feature_flags import FeatureFlag
from callboard.actors.infrastructure.job_kinds import JobHandler, JobKind, job_pool
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.actors.infrastructure.refs import Declared
from callboard.actors.infrastructure.retention import Retain
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.ops import departments as module
from callboard.ops.application import dry_run
from callboard.ops.config.departments import Configured, read_packages
from callboard.ops.config.sources import Reader
from callboard.ops.departments import OURS, CompositionError, build, declared_by, in_order, installed
from callboard.runtime import (
    Actor,
    KeyedProps,
    Message,
    Node,
    Props,
    Ref,
    Request,
    entities,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.streams.consumers import Consumer


class Ping(Request[str], frozen=True):
    """A message."""


class Pong(Actor[Ping]):
    @on(Ping)
    async def pong(self, _message: Ping) -> str:
        return "pong"


class Nothing(Struct, frozen=True):
    pass


class QuizRefs(Struct, frozen=True):
    quiz: Ref[Ping]


class ScoreRefs(Struct, frozen=True):
    scores: Ref[Ping]


class NeedsScores(Struct, frozen=True):
    scores: ScoreRefs


class NeedsQuiz(Struct, frozen=True):
    quiz: QuizRefs


class MayUseScores(Struct, frozen=True):
    scores: ScoreRefs | None = None


def branch(role: Role | None = None, refs: Any = QuizRefs) -> Callable[[Any, Any], Branch[Any]]:
    def made(_settings: Any, _needs: Any) -> Branch[Any]:
        node = worker("quiz", Props(Pong))
        return Branch(refs=refs(node), children=(Child(node, role),))

    return made


def department(name: str = "quiz", **options: Any) -> AnyDepartment:
    given = {"settings": Nothing, "needs": Nothing, "offers": QuizRefs, "build": branch()} | options
    return Department(name=name, **given)


SCORES = department("scores", offers=ScoreRefs, build=branch(refs=ScoreRefs))


def built(*departments: AnyDepartment) -> module.Built:
    ordered = in_order(departments)
    clients: Any = None
    return build(ordered, {each.name: Nothing() for each in ordered}, clients, declared_by(ordered))


@pytest.mark.parametrize(
    ("departments", "fault"),
    [
        ((department(), department(offers=ScoreRefs)), "2 departments are called quiz"),
        ((department(), department("other")), "2 departments offer"),
        ((department("Quiz"),), "Quiz: the name of a department is one word in lower case"),
        ((department("a__b"),), "a__b: the name of a department is one word in lower case"),
        ((department("pools"),), "a department may not be called pools"),
        ((department(needs=NeedsScores),), "quiz needs ScoreRefs, which no installed department offers"),
        ((department(limits=(RateLimit("login", 1, 1),)),), "quiz: login must be called quiz.NAME"),
        ((department(flags=(FeatureFlag("scores.x"),)),), "quiz: scores.x must be called quiz.NAME"),
        ((department(jobs=(JobKind("mark", Nothing),)),), "quiz: mark must be called quiz.NAME"),
        ((department(retention=(Retain("x", "t", "c", 1),)),), "quiz: x must be called quiz.NAME"),
        ((*OURS, department(limits=OURS[0].limits)), "2 departments declare the limit default"),
        ((*OURS, department(events=OURS[1].events[:1])), "2 departments declare the event user.registered"),
        (
            (*OURS, department(errors=OURS[1].errors[:1])),
            "2 departments declare the error AUTH_INVALID",
        ),
        ((department(errors=ERRORS[:1]),), "2 departments declare the error AUTH_TOKEN_MISSING_002"),
        (
            (department(needs=NeedsScores), department("scores", needs=NeedsQuiz, offers=ScoreRefs)),
            "departments need one another in a circle",
        ),
    ],
)
def test_departments_that_do_not_fit_together_are_refused_by_name(
    departments: tuple[AnyDepartment, ...], fault: str
) -> None:
    with pytest.raises(CompositionError) as refused:
        in_order(departments)
    assert any(each.startswith(fault) for each in refused.value.faults), refused.value.faults


def test_a_setting_may_not_have_a_name_that_a_table_has() -> None:
    class Limits(Struct):
        limits: int = 1

    with pytest.raises(CompositionError, match="quiz: a setting may not be called limits"):
        in_order([department(settings=Limits)])


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(CompositionError) as refused:
        in_order([department("Quiz", needs=NeedsScores), department("Quiz", offers=ScoreRefs)])
    assert len(refused.value.faults) == 3


def test_who_offers_is_built_before_who_needs_and_all_else_stays_in_its_order() -> None:
    assert [each.name for each in in_order([department(needs=NeedsScores), SCORES])] == ["scores", "quiz"]
    assert in_order(OURS[::-1])[0].name == "infrastructure"
    assert [each.name for each in in_order(OURS)] == [each.name for each in OURS]


@pytest.mark.parametrize("others", [(), (SCORES,)])
def test_a_need_with_a_default_is_filled_if_it_is_there(others: tuple[AnyDepartment, ...]) -> None:
    seen: list[MayUseScores] = []

    def made(settings: Nothing, needs: MayUseScores) -> Branch[QuizRefs]:
        seen.append(needs)
        return branch()(settings, needs)

    built(department(needs=MayUseScores, build=made), *others)
    assert (seen[0].scores is None) is (others == ())


def test_an_offered_reference_to_what_does_not_run_everywhere_is_refused() -> None:
    reason = (
        "quiz: the offer quiz runs in every process and holds a reference to quiz/quiz, which runs only with the role"
    )
    with pytest.raises(CompositionError, match=reason):
        built(department(build=branch(Role.WORKERS)))


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

    return department(build=made)


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize(("role", "runs"), [(None, "in every process"), (Role.FRONT, "with the role front")])
def test_an_actor_may_not_hold_a_reference_to_one_that_runs_in_fewer_processes(
    role: Role | None, runs: str, hide: Callable[[Any], object]
) -> None:
    reason = f"quiz: asking runs {runs} and holds a reference to quiz/target, which runs only with the role workers"
    with pytest.raises(CompositionError, match=reason):
        built(asks(role, Role.WORKERS, hide))


@pytest.mark.parametrize(("role", "target"), [(None, None), (Role.FRONT, None), (Role.WORKERS, Role.WORKERS)])
def test_an_actor_may_hold_a_reference_to_one_that_runs_wherever_it_does(
    role: Role | None, target: Role | None
) -> None:
    built(asks(role, target, HIDDEN["itself"]))


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
            built(department(build=made))


def test_the_pool_of_a_kind_of_jobs_is_reached_by_jobs_alone() -> None:
    mark = JobKind("quiz.mark", Nothing)

    def made(_settings: Any, _needs: Any) -> Branch[Any]:
        handler: JobHandler[Any] = job_pool(mark, Props(Pong))
        node = worker("quiz", Props(Asking, handler))
        return Branch(refs=QuizRefs(node), children=(Child(node),), jobs=(handler,))

    with pytest.raises(CompositionError, match=r"quiz runs in every process and holds a reference to quiz/quiz\.mark"):
        built(department(build=made, jobs=(mark,)))


def test_a_consumer_must_run_where_events_are_read() -> None:
    for role, fits in ((None, True), (Role.STREAMS, True), (Role.WORKERS, False)):

        def made(_settings: Any, _needs: Any, role: Role | None = role) -> Branch[Any]:
            offered, node = worker("quiz", Props(Pong)), worker("events", Props(Pong))
            consumers = (Consumer("quiz", (), (), node),)  # type: ignore[arg-type]
            return Branch(refs=QuizRefs(offered), children=(Child(offered), Child(node, role)), consumers=consumers)

        with (
            nullcontext() if fits else pytest.raises(CompositionError, match="the consumer quiz runs with the role str")
        ):
            built(department(build=made))


def test_a_kind_of_jobs_that_nobody_works_on_is_refused() -> None:
    with pytest.raises(CompositionError, match=r"quiz: no actor works on quiz\.mark"):
        built(department(jobs=(JobKind("quiz.mark", Nothing),)))


class Vote(Message, frozen=True):
    """An event."""


def test_a_consumer_of_an_event_that_no_department_declares_is_refused() -> None:
    def made(_settings: Any, _needs: Any) -> Branch[Any]:
        node: Any = worker("quiz", Props(Pong))
        return Branch(refs=QuizRefs(node), children=(Child(node),), consumers=(Consumer("quiz", (), (Vote,), node),))

    with pytest.raises(CompositionError, match="quiz: the consumer quiz accepts Vote, which no installed department"):
        built(department(build=made))


async def ping(request: HttpRequest[None, None, QuizRefs]) -> Reply[str]:
    """Ping."""
    return Reply(await request.refs.quiz.ask(Ping()))


def test_routes_need_their_department_and_its_limit() -> None:
    route = Route("GET", "/quiz", ping, "Ping", "quiz", Access.PUBLIC, limit=RateLimit("quiz.ping", 1, 1))
    with pytest.raises(CompositionError, match="QuizRefs has routes, and no installed department offers it"):
        built(SCORES).bind([Routes(QuizRefs, route)])
    with pytest.raises(CompositionError, match=r"GET /quiz: no department declares the limit quiz\.ping"):
        built(department()).bind([Routes(QuizRefs, route)])
    (bound,) = built(department(limits=(RateLimit("quiz.ping", 1, 1),))).bind([Routes(QuizRefs, route)])
    assert isinstance(bound.refs, QuizRefs)


def test_a_route_gives_only_errors_that_a_department_declares() -> None:
    wrong = ErrorCode("QUIZ_WRONG_001", ErrorKind.CONFLICT, "Another answer is right.")
    routes = [Routes(QuizRefs, Route("GET", "/quiz", ping, "Ping", "quiz", Access.PUBLIC, errors=(wrong,)))]
    with pytest.raises(CompositionError, match="GET /quiz: no department declares the error QUIZ_WRONG_001"):
        built(department()).bind(routes)
    app = dry_run(departments=[*OURS, department(errors=(wrong,))], routes=routes)
    (front,) = (node for node in app.tree.root.children if node.name == "front")
    answered = {code.name for code in front.make.keywords["settings"].errors}  # type: ignore[attr-defined]
    assert {"QUIZ_WRONG_001", "USERS_NOT_FOUND_002", "CONTENT_STALE_003", "JOBS_NOT_DEAD_003"} <= answered


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("callboard_quiz:QUIZ", "ModuleNotFoundError: No module named 'callboard_quiz'"),
        ("callboard.http.api.stats:ROUTES", "is a Routes, not a Department"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, value: str, reason: str) -> None:
    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint("quiz", value, group)]

    monkeypatch.setattr(module, "entry_points", entry_points)
    with pytest.raises(CompositionError) as refused:
        installed()
    assert refused.value.faults == [f"unknown: entry point callboard.departments, quiz = {value}: {reason}"]


def test_the_whole_process_is_composed_of_departments_that_are_given() -> None:
    app = dry_run(departments=[*OURS, department()], routes=[])
    assert "quiz" in {child.name for child in app.tree.root.children}


# Configuration -------------------------------------------------------------------------------------------------------


class Nested(Struct, frozen=True):
    length: Annotated[int, Meta(ge=1, le=100)] = 20


class Sample(Struct, frozen=True, kw_only=True):
    needed: str
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    feed: Nested = Nested()

    def __post_init__(self) -> None:
        if self.needed == "all" and self.share < 1:
            raise ValueError("all needs a share of 1")


QUIZ = department(
    settings=Sample,
    limits=(RateLimit("quiz.ask", 5, 60),),
    flags=(FeatureFlag("quiz.open"),),
    retention=(Retain("quiz.answers", "answers", "given_at", 365),),
)


def configured(tables: dict[str, Any], environ: dict[str, str]) -> tuple[Configured, list[str]]:
    reader = Reader(environ)
    return read_packages([QUIZ], tables, reader)["quiz"], reader.faults


def test_a_table_and_variables_configure_settings_limits_flags_and_retention() -> None:
    tables = {
        "quiz": {"needed": "x", "feed": {"length": 3}, "limits": {"ask": {"limit": 7}}, "retention": {"answers": 9}}
    }
    environ = {"CALLBOARD_QUIZ__SHARE": "0.25", "CALLBOARD_QUIZ__FLAGS__OPEN": "true", "CALLBOARD_CONFIG": "x.toml"}
    found, faults = configured(tables, environ)
    assert faults == []
    assert found.settings == Sample(needed="x", share=0.25, feed=Nested(3))
    assert found.limits == [RateLimit("quiz.ask", 7, 60)]
    assert found.flags == [FeatureFlag("quiz.open", default=True)]
    assert found.retention == [Retain("quiz.answers", "answers", "given_at", 9)]
    declared = declared_by([QUIZ], {"quiz": found})
    assert isinstance(declared, Declared)
    assert declared.policies["quiz.ask"].limit == 7


@pytest.mark.parametrize(
    ("table", "environ", "fault"),
    [
        ({}, {}, "quiz.needed: is missing"),
        ({"needed": 3}, {}, "quiz.needed: must be text"),
        ({"needed": "x", "share": float("inf")}, {}, "quiz.share: must be a number, 0 to 1"),
        ({"needed": "x", "share": float("nan")}, {}, "quiz.share: must be a number, 0 to 1"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__SHARE": "inf"}, "CALLBOARD_QUIZ__SHARE must be a number, 0 to 1"),
        ({"needed": "x", "colour": 1}, {}, "quiz.colour: is unknown; there are needed, share, feed"),
        ({"needed": "x", "feed": 1}, {}, "quiz.feed: must be a table"),
        ({"needed": "x", "feed": {"length": 0}}, {}, "quiz.feed.length: must be a whole number, 1 to 100"),
        ({"needed": "all"}, {}, "quiz: all needs a share of 1"),
        ({"needed": "x", "limits": {"ask": {"limit": 0}}}, {}, "quiz.limits.ask.limit: must be a whole number, 1 to"),
        ({"needed": "x", "limits": {"tell": {}}}, {}, "quiz.limits.tell: is unknown; there are ask"),
        ({"needed": "x", "flags": {"open": "yes"}}, {}, "quiz.flags.open: must be true or false"),
        ({"needed": "x", "retention": {"answers": 0}}, {}, "quiz.retention.answers: must be a whole number, 1 to"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__FLAGS__SHUT": "true"}, "CALLBOARD_QUIZ__FLAGS__SHUT: is unknown"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__SHARE__X": "1"}, "CALLBOARD_QUIZ__SHARE__X: is unknown"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__FEED": "1"}, "CALLBOARD_QUIZ__FEED: is unknown"),
        ({"needed": "x"}, {"CALLBOARD_QUIZ__SHARE_FILE": "/no"}, "CALLBOARD_QUIZ__SHARE_FILE cannot be read"),
        ({"needed": "x"}, {"CALLBOARD_QUIZZ__X": "1"}, "CALLBOARD_QUIZZ__X: no package has the department quizz"),
    ],
)
def test_a_fault_of_the_configuration_is_named_by_its_path_or_its_variable(
    table: dict[str, Any], environ: dict[str, str], fault: str
) -> None:
    _, faults = configured({"quiz": table}, environ)
    assert any(each.startswith(fault) for each in faults), faults


@pytest.mark.parametrize(("table", "column"), [("a b", "c"), ("t; drop table users", "c"), ("t", "c)"), ("", "c")])
def test_a_retention_rule_takes_names_of_tables_and_columns_alone(table: str, column: str) -> None:
    with pytest.raises(ValueError, match="keeps rows of a table by a column"):
        Retain("quiz.answers", table, column, 1)

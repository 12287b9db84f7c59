"""How departments fit together: order, clashes, needs, reach, and entry points that cannot be used."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from kit.quiz import Nothing, Ping, Pong, QuizRefs
from msgspec import Struct

from callboard.actors.department import AnyDepartment, Branch, Child, Department, Role
from callboard.actors.errors import ERRORS, ErrorCode, ErrorKind
from callboard.actors.infrastructure.feature_flags import FeatureFlag
from callboard.actors.infrastructure.job_kinds import JobKind
from callboard.actors.infrastructure.rate_limiter import RateLimit
from callboard.actors.infrastructure.retention import Retain
from callboard.actors.infrastructure.schedules import Schedule
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route, Routes
from callboard.ops import departments as module
from callboard.ops.application import dry_run
from callboard.ops.cli import main
from callboard.ops.departments import OURS, CompositionError, build, declared_by, in_order, installed
from callboard.runtime import (
    Message,
    Props,
    Ref,
    worker,
)
from callboard.streams.consumers import Consumer


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
        ((department(schedules=(Schedule("tidy", Nothing(), "0 * * * *"),)),), "quiz: tidy must be called quiz.NAME"),
        ((*OURS, department(schedules=OURS[0].schedules)), "2 departments declare the schedule retention"),
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


def test_a_kind_of_jobs_that_nobody_works_on_is_refused() -> None:
    with pytest.raises(CompositionError, match=r"quiz: no actor works on quiz\.mark"):
        built(department(jobs=(JobKind("quiz.mark", Nothing),)))


def test_a_schedule_of_jobs_that_no_kind_takes_is_refused() -> None:
    with pytest.raises(CompositionError, match=r"quiz: no kind of jobs takes the Nothing of the schedule quiz\.tidy"):
        built(department(schedules=(Schedule("quiz.tidy", Nothing(), "0 * * * *"),)))


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
    def points(group: str) -> list[EntryPoint]:
        return [EntryPoint("quiz", value, group)]

    monkeypatch.setattr(module, "_points", points)
    with pytest.raises(CompositionError) as refused:
        installed()
    assert refused.value.faults == [f"unknown: entry point callboard.departments, quiz = {value}: {reason}"]


def test_a_package_that_does_not_fit_ends_a_command_with_status_2_and_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_points", lambda group: [EntryPoint("quiz", "no_such_package:QUIZ", group)])
    with pytest.raises(SystemExit) as ended:
        main(["openapi"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "callboard: unknown: entry point callboard.routes, quiz = no_such_package:QUIZ: ModuleNotFound"
    )


def test_the_whole_process_is_composed_of_departments_that_are_given() -> None:
    app = dry_run(departments=[*OURS, department()], routes=[])
    assert "quiz" in {child.name for child in app.tree.root.children}

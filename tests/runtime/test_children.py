"""Children that an actor spawns, replies given later, actors found by name, supervision by class of error."""

import asyncio

import pytest
from kit.recorder import Fail, Note, Notes, Recorder, Wait

from callboard.runtime import (
    Actor,
    ActorCrashedError,
    ActorNotFoundError,
    ActorStoppedError,
    AskTimeoutError,
    Backoff,
    Cell,
    ChildSpecError,
    Counts,
    Crashed,
    DeferredReply,
    DuplicateNameError,
    Escalated,
    EscalationError,
    Message,
    Props,
    Refusal,
    Request,
    Restart,
    Restarted,
    Started,
    Stopped,
    System,
    entities,
    on,
    pool,
    supervisor,
    worker,
)
from callboard.runtime.testkit import EventRecorder, nodes


class Begin(Request[str], frozen=True):
    name: str


class Parent(Actor[Begin | Fail | Note]):
    """Has a child for each name."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.log = [] if log is None else log
        self.spawned: dict[str, Cell[object]] = {}

    async def on_stop(self) -> None:
        self.log.append("parent stops")

    @on(Begin)
    async def begin(self, message: Begin) -> str:
        child = await self.spawn(worker(message.name, Props(Recorder, self.log, message.name)))
        return child.path

    @on(Fail)
    def fail(self, message: Fail) -> None:
        raise ValueError(message.why)

    @on(Note)
    def note(self, _message: Note) -> None: ...


async def test_an_actor_spawns_children_that_are_found_below_it_and_stop_before_it() -> None:
    log: list[str] = []
    parent = worker("p", Props(Parent, log))
    async with System(supervisor("root", parent)) as system:
        assert await parent.ask(Begin("a")) == "root/p/a"
        assert await parent.ask(Begin("b")) == "root/p/b"
        child = system.find("p/a")
        await child.tell(Note("hello"))
        assert await child.ask(Notes()) == ["hello"]
        (shown,) = system.snapshot().children
        assert [node.name for node in shown.children] == ["a", "b"]
        assert len(nodes(system.root)) == 4
    assert log == ["a starts", "b starts", "b stops", "a stops", "parent stops"]
    with pytest.raises(ActorStoppedError):
        await child.tell(Note("too late"))


async def test_children_end_with_the_incarnation_that_has_spawned_them() -> None:
    log: list[str] = []
    parent = worker("p", Props(Parent, log))
    async with System(supervisor("root", parent)) as system:
        recorder = EventRecorder(system)
        await parent.ask(Begin("a"))
        with pytest.raises(ValueError, match="told to"):
            await parent.ask(Fail())
        await recorder.wait_for(Restarted)
        assert log == ["a starts", "a stops", "parent stops"]
        assert await parent.ask(Begin("a")) == "root/p/a"


async def test_a_child_that_crashes_is_restarted_and_one_that_crashes_too_often_crashes_its_parent() -> None:
    parent = worker("p", Parent)
    async with System(supervisor("root", parent)) as system:
        recorder = EventRecorder(system)
        await parent.ask(Begin("a"))
        child = system.find("p/a")
        for _ in range(3):
            await child.tell(Fail())
            await asyncio.sleep(0.1)
        assert await child.ask(Notes()) == []
        await child.tell(Fail())
        await asyncio.sleep(1)
        crashed = [event for event in recorder.of(Crashed) if event.actor == "root/p"]
        assert [type(event.error) for event in crashed] == [EscalationError]
        assert await parent.ask(Begin("a")) == "root/p/a"


async def test_an_actor_spawns_in_its_start_and_a_name_only_once() -> None:
    class Early(Parent):
        async def on_start(self) -> None:
            await self.spawn(worker("a", Recorder))

    early = worker("e", Early)
    async with System(supervisor("root", early)) as system:
        assert await system.find("e/a").ask(Notes()) == []
        with pytest.raises(DuplicateNameError):
            await early.ask(Begin("a"))


async def test_a_start_that_fails_leaves_no_child() -> None:
    class Torn(Parent):
        async def on_start(self) -> None:
            await self.spawn(worker("a", Props(Recorder, self.log, "a")))
            raise OSError("no port")

    log: list[str] = []
    with pytest.raises(OSError, match="no port"):
        await System(supervisor("root", worker("t", Props(Torn, log)))).start()
    assert log == ["a starts", "a stops", "parent stops"]


async def test_whoever_has_ended_spawns_nothing() -> None:
    class Late(Recorder):
        async def on_stop(self) -> None:
            with pytest.raises(ActorStoppedError):
                await self.spawn(worker("a", Recorder))
            self.log.append("refused")

    log: list[str] = []
    async with System(supervisor("root", worker("l", Props(Late, log)))):
        pass
    assert log[-1] == "refused"


# Replies given later -------------------------------------------------------------------------------------------------


class Take(Request[str], frozen=True):
    pass


class Put(Message, frozen=True):
    text: str


class Counter(Actor[Take | Put | Fail]):
    """Answers a Take when something is put."""

    def __init__(self) -> None:
        self.waiting: list[DeferredReply[str]] = []

    @on(Take)
    async def take(self, _message: Take) -> DeferredReply[str]:
        reply = DeferredReply[str]()
        self.waiting.append(reply)
        return reply

    @on(Put)
    def put(self, message: Put) -> None:
        while self.waiting:
            reply = self.waiting.pop(0)
            if reply.wanted:
                reply.set(message.text)
                return

    @on(Fail)
    def fail(self, message: Fail) -> None:
        if self.waiting:
            self.waiting.pop().refuse(Refusal(message.why))
        else:
            raise ValueError(message.why)


class PlainCounter(Counter):
    @on(Take)
    def take(self, _message: Take) -> DeferredReply[str]:  # type: ignore[override]
        reply = DeferredReply[str]()
        self.waiting.append(reply)
        return reply


@pytest.mark.parametrize("kind", [Counter, PlainCounter])
@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_reply_comes_after_the_handlers_return_and_the_actor_goes_on_meanwhile(
    kind: type[Counter], concurrency: int
) -> None:
    class Own(kind):  # type: ignore[valid-type,misc]
        pass

    Own.handlers.concurrency = concurrency
    counter = worker("c", Own)
    async with System(supervisor("root", counter)):
        first, second = counter.ask(Take()), counter.ask(Take())
        await asyncio.sleep(1)
        assert not first.done()
        second.cancel()
        await asyncio.sleep(0)
        third = counter.ask(Take())
        for text in "ab":
            await counter.tell(Put(text))
        assert (await first, await third) == ("a", "b")
        refused = counter.ask(Take())
        await counter.tell(Fail("no"))
        with pytest.raises(Refusal, match="no"):
            await refused
        await asyncio.sleep(0)
        assert counter.counts() == Counts(handled=7)
        assert not counter.cold_state.replies


@pytest.mark.parametrize("kind", [Counter, PlainCounter])
async def test_the_deadline_of_an_ask_holds_for_a_later_reply(kind: type[Counter]) -> None:
    counter = worker("c", kind)
    async with System(supervisor("root", counter)):
        with pytest.raises(AskTimeoutError):
            await counter.ask(Take(), timeout_s=2)
        await counter.tell(Put("nobody"))
        asking = counter.ask(Take())
        await counter.tell(Put("somebody"))
        assert await asking == "somebody"


async def test_an_incarnation_that_ends_owes_no_reply() -> None:
    counter = worker("c", Counter)
    async with System(supervisor("root", counter)):
        asking = counter.ask(Take(), timeout_s=60)
        await asyncio.sleep(1)
        counter.kill()
        with pytest.raises(ActorCrashedError):
            await asking


async def test_a_reply_that_is_set_before_the_handler_returns_is_given_at_once() -> None:
    class Quick(Actor[Take]):
        @on(Take)
        def take(self, _message: Take) -> DeferredReply[str]:
            reply = DeferredReply[str]()
            reply.set("at once")
            reply.set("and never again")
            return reply

    quick = worker("q", Quick)
    async with System(supervisor("root", quick)):
        assert await quick.ask(Take()) == "at once"


# Found by name -------------------------------------------------------------------------------------------------------


async def test_actors_pools_and_entities_are_found_by_their_paths_from_anywhere() -> None:
    class Seeker(Actor[Begin]):
        @on(Begin)
        async def begin(self, message: Begin) -> str:
            return (await self.find(message.name).ask(Wait(0, "found"))) or ""

    class Keyed(Recorder):
        def __init__(self, _key: object) -> None:
            super().__init__()

    recorder, crowd = worker("r", Recorder), pool("p", Recorder, size=2)
    each = entities("e", Keyed, key=type, idle_s=1, limit=3)
    seeker = worker("s", Seeker)
    async with System(supervisor("root", seeker, supervisor("inner", recorder, crowd, each))) as system:
        assert system.find("inner/r") is recorder
        assert system.find("inner/p") is crowd
        for path in ("inner/r", "inner/p", "inner/p/1", "inner/e"):
            assert await seeker.ask(Begin(path)) == "found"
        for path in ("nobody", "inner/nobody", "inner", "inner/r/below", ""):
            with pytest.raises(ActorNotFoundError, match="there is no actor at"):
                system.find(path)
        with pytest.raises(ActorNotFoundError, match="below root/inner there are r, p, e"):
            await seeker.ask(Begin("inner/x"))


# By the class of an error --------------------------------------------------------------------------------------------


class Typed(Actor[Begin]):
    @on(Begin)
    def begin(self, message: Begin) -> str:
        raise {"key": KeyError, "lookup": LookupError, "os": OSError}[message.name](message.name)


@pytest.mark.parametrize(("name", "restarts"), [("os", True), ("lookup", False), ("key", False)])
async def test_a_crash_with_an_error_of_some_classes_is_not_followed_by_a_restart(name: str, restarts: bool) -> None:
    typed = worker("t", Typed, stop_on=(LookupError,))
    async with System(supervisor("root", typed)) as system:
        recorder = EventRecorder(system)
        await typed.tell(Begin(name))
        await recorder.wait_for(Restarted if restarts else Stopped)
        await asyncio.sleep(1)
        assert (len(recorder.of(Restarted)), len(recorder.of(Stopped))) == ((1, 0) if restarts else (0, 1))


async def test_a_crash_with_an_error_of_some_classes_is_more_than_its_supervisor_can_bear() -> None:
    typed = worker("t", Typed, escalate_on=(OSError,), backoff=Backoff(initial_s=60))
    other = worker("o", Recorder)
    async with System(supervisor("root", supervisor("inner", typed, other))) as system:
        recorder = EventRecorder(system)
        await typed.tell(Begin("os"))
        await recorder.wait_for(Started, 2)
        assert [event.actor for event in recorder.of(Escalated)] == ["root/inner"]


def test_classes_that_are_none_are_refused() -> None:
    with pytest.raises(ChildSpecError, match="stop_on is a tuple of classes of errors"):
        worker("t", Typed, stop_on=KeyError)  # type: ignore[arg-type]


# Many workers behind one reference -----------------------------------------------------------------------------------


async def test_a_pool_is_drained_and_killed_as_one_actor_is() -> None:
    log: list[str] = []
    crowd = pool("p", Props(Recorder, log, "w"), size=2)
    async with System(supervisor("root", crowd)) as system:
        recorder = EventRecorder(system)
        crowd.kill()
        await recorder.wait_for(Restarted, 2)
        asks = [crowd.ask(Wait(1, str(n)), 60) for n in range(6)]
        assert await crowd.drain(60) == 0
        assert await asyncio.gather(*asks) == list("012345")
        with pytest.raises(ActorStoppedError):
            await crowd.tell(Note("too late"))


async def test_entities_are_drained_and_killed_as_one_actor_is() -> None:
    class Keyed(Recorder):
        def __init__(self, _key: object) -> None:
            super().__init__()

    each = entities("e", Keyed, key=lambda message: message.text, idle_s=60, limit=9, restart=Restart.PERMANENT)
    async with System(supervisor("root", each)) as system:
        recorder = EventRecorder(system)
        await asyncio.gather(*(each.ask(Wait(0, text)) for text in "abc"))
        each.kill()
        await recorder.wait_for(Restarted, 3)
        asks = [each.ask(Wait(1, text), 60) for text in "abc"]
        assert await each.drain(60) == 0
        assert await asyncio.gather(*asks) == list("abc")
        with pytest.raises(ActorStoppedError):
            await each.ask(Wait(0, "d"))

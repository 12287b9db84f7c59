"""Bad input: each mistake has its own error, which says what to do. Child specs: see test_supervision_otp.py."""

import asyncio
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
from kit.recorder import Note, Notes, Recorder

from callboard.runtime import (
    Actor,
    ActorStoppedError,
    AlreadyStartedError,
    ChildSpecError,
    DuplicateNameError,
    Mailbox,
    MailboxFullError,
    Message,
    OutsideLoopError,
    Overflow,
    Props,
    RuntimeFault,
    System,
    UnhandledMessageError,
    WrongLoopError,
    on,
    pool,
    supervisor,
    worker,
)


class Alien(Message, frozen=True):
    pass


@pytest.mark.parametrize("send", ["tell", "tell_nowait", "ask"])
@pytest.mark.parametrize("make", [lambda: worker("r", Recorder), lambda: pool("r", Recorder, size=2)])
async def test_a_wrong_message_type(make: Callable[[], Any], send: str) -> None:
    recorder = make()
    said = "does not handle Alien; it handles .*Notes, .*: send it elsewhere, or declare it in Actor"
    async with System(supervisor("root", recorder)):
        with pytest.raises(UnhandledMessageError, match=said) as caught:
            getattr(recorder, send)(Alien())
        assert caught.value.message == Alien()


@pytest.mark.parametrize("message", [None, "text", Note])
async def test_what_is_no_message_at_all(message: Any) -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        with pytest.raises(UnhandledMessageError, match="root/r does not handle"):
            await recorder.tell(message)


@pytest.mark.parametrize("send", ["tell", "tell_nowait", "ask"])
async def test_a_message_to_a_stopped_actor(send: str) -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)):
        pass
    said = "root/r has stopped; Notes is returned: send it elsewhere, or start the actor again"
    with pytest.raises(ActorStoppedError, match=said) as caught:
        getattr(recorder, send)(Notes())
    assert caught.value.message == Notes()


@pytest.mark.parametrize("send", ["tell", "tell_nowait", "ask"])
async def test_a_full_mailbox(send: str) -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(1, Overflow.REJECT))
    async with System(supervisor("root", recorder)):
        recorder.tell_nowait(Note("a"))
        said = r"is full \(1 messages\); Notes is returned: slow down, or enlarge the mailbox or the pool"
        with pytest.raises(MailboxFullError, match=said) as caught:
            getattr(recorder, send)(Notes())
        assert caught.value.message == Notes()


def test_tells_before_the_start_beyond_the_capacity_where_nobody_can_wait() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(2))
    recorder.tell(Note("a"))
    recorder.tell_nowait(Note("b"))
    for send in (recorder.tell, recorder.tell_nowait):
        with pytest.raises(MailboxFullError, match="the mailbox of r is full"):
            send(Note("c"))


async def test_tells_before_the_start_beyond_the_capacity_wait_for_it() -> None:
    recorder = worker("r", Recorder, mailbox=Mailbox(2))
    sending = [asyncio.ensure_future(recorder.tell(Note(str(n)))) for n in range(5)]
    await asyncio.sleep(1)
    assert [each.done() for each in sending] == [True, True, False, False, False]
    async with System(supervisor("root", recorder)):
        await asyncio.gather(*sending)
        assert await recorder.ask(Notes()) == list("01234")


def test_a_second_actor_of_the_same_name() -> None:
    said = "root has a child named 'a' already: choose another name, or stop that one first"
    with pytest.raises(DuplicateNameError, match=said):
        supervisor("root", worker("a", Recorder), worker("a", Recorder))


def test_an_ask_outside_the_loop_before_the_start() -> None:
    with pytest.raises(OutsideLoopError, match="none runs: ask from async code, or tell_nowait"):
        worker("r", Recorder).ask(Notes())


def test_an_ask_while_the_loop_stands_still_is_answered_when_it_runs_again() -> None:
    recorder = worker("r", Recorder)

    async def start() -> System:
        system = System(supervisor("root", recorder))
        await system.start()
        return system

    async def stop(system: System, notes: "asyncio.Future[list[str]]") -> None:
        assert await notes == ["a"]
        await system.stop()

    with asyncio.Runner() as runner:
        system = runner.run(start())
        recorder.tell_nowait(Note("a"))
        runner.run(stop(system, recorder.ask(Notes())))


@pytest.mark.parametrize("make", [lambda: worker("r", Recorder), lambda: pool("r", Recorder, size=2)])
async def test_an_ask_from_another_thread(make: Callable[[], Any]) -> None:
    recorder = make()
    caught: list[BaseException] = []

    async def ask() -> None:
        await recorder.ask(Notes())

    def elsewhere() -> None:
        for attempt in (lambda: recorder.ask(Notes()), lambda: asyncio.run(ask())):
            try:
                attempt()
            except RuntimeFault as error:
                caught.append(error)

    async with System(supervisor("root", recorder)):
        for _ in range(2):
            await recorder.ask(Notes())  # its mailbox is open: an ask goes the short way
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert [type(error) for error in caught] == [OutsideLoopError, WrongLoopError]
        said = "root/r lives on another event loop: ask there, by asyncio.run_coroutine_threadsafe, or tell, by "
        assert str(caught[1]) == said + "loop.call_soon_threadsafe(ref.tell_nowait, message)"
        assert recorder.tally().accepted == 2


async def test_what_the_error_of_a_wrong_thread_advises_works() -> None:
    recorder = worker("r", Recorder)
    loop = asyncio.get_running_loop()
    answers: list[list[str]] = []

    async def ask() -> list[str]:
        return await recorder.ask(Notes())

    def elsewhere() -> None:
        loop.call_soon_threadsafe(recorder.tell_nowait, Note("from afar"))
        answers.append(asyncio.run_coroutine_threadsafe(ask(), loop).result(5))

    async with System(supervisor("root", recorder)):
        await asyncio.to_thread(elsewhere)
        assert answers == [["from afar"]]


async def test_a_second_start() -> None:
    recorder = worker("r", Recorder)
    async with System(supervisor("root", recorder)) as system:
        said = "root is running: only what has been stopped is started again, and only in one place"
        with pytest.raises(AlreadyStartedError, match=said):
            await system.start()
        with pytest.raises(AlreadyStartedError, match=said):
            await System(system.root).start()
        assert await recorder.ask(Notes()) == []


async def test_a_child_in_two_places() -> None:
    recorder = worker("r", Recorder)
    root, other = supervisor("root", recorder), supervisor("other")
    async with System(root), System(other):
        with pytest.raises(AlreadyStartedError, match="root/r is running"):
            await other.start_child(recorder)
        assert await recorder.ask(Notes()) == []
        assert other.children == []


async def test_a_child_in_two_places_of_one_tree() -> None:
    recorder = worker("r", Recorder)
    with pytest.raises(AlreadyStartedError, match="root/a/r is running"):
        await System(supervisor("root", supervisor("a", recorder), supervisor("b", recorder))).start()


async def test_a_system_that_was_stopped_starts_again() -> None:
    recorder = worker("r", Recorder)
    crowd = pool("p", Recorder, size=2)
    system = System(supervisor("root", recorder, crowd))
    for _ in range(2):
        async with system:
            await recorder.tell(Note("a"))
            assert await recorder.ask(Notes()) == ["a"]
            assert await crowd.ask(Notes()) == []


def test_an_actor_class_without_a_protocol() -> None:
    said = r"Vague declares no protocol: write Actor\[One \| Two\], or Actor\[None\] if it takes none"
    with pytest.raises(TypeError, match=said):

        class Vague(Actor):  # type: ignore[type-arg]
            @on(Note)
            def note(self, message: Note) -> None: ...


@pytest.mark.parametrize("name", ["run", "on_start", "on_stop", "stop", "watch", "ref", "spawn"])
def test_a_handler_by_the_name_of_something_that_every_actor_has(name: str) -> None:
    def handler(_actor: object, _message: Note) -> None: ...

    with pytest.raises(TypeError, match=rf"Odd\.{name} handles Note: {name} is a method of every actor"):
        types.new_class("Odd", (Actor[Note],), exec_body=lambda body: body.update({name: on(Note)(handler)}))


@pytest.mark.parametrize("name", ["run", "on_start", "on_stop"])
def test_a_hook_that_takes_a_message(name: str) -> None:
    async def hook(_actor: object, _message: Note) -> None: ...

    with pytest.raises(TypeError, match=rf"Odd\.{name} is called without arguments: mark a handler with @on"):
        types.new_class("Odd", (Actor[None],), exec_body=lambda body: body.update({name: hook}))


def test_what_is_no_actor_class() -> None:
    for kind in (dict, Recorder(), "Recorder", lambda: Recorder()):  # noqa: PLW0108 - a function is none
        with pytest.raises(TypeError, match="Props takes an Actor class and its constructor's arguments"):
            worker("w", kind)  # type: ignore[arg-type]


def test_a_handler_of_what_is_no_message() -> None:
    with pytest.raises(TypeError, match="@on takes a Message class, not <class 'int'>"):
        on(int)  # type: ignore[type-var]


async def test_arguments_that_the_class_does_not_take_fail_the_start() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        await System(supervisor("root", worker("r", Props(Recorder, [], "name", "one too many")))).start()


def test_every_error_of_the_library_has_its_root_and_says_something() -> None:
    made = [
        ActorStoppedError("a", Note("x")),
        MailboxFullError("a", Note("x"), 1),
        UnhandledMessageError("a", Note("x"), []),
        DuplicateNameError("a", "b"),
        OutsideLoopError(),
        WrongLoopError("a"),
        AlreadyStartedError("a", "running"),
        ChildSpecError("x"),
    ]
    assert all(isinstance(error, RuntimeFault) and str(error) for error in made)

"""Where the time of one ask or one tell goes: `make bench-runtime ARGS="--profile ask"`.

Each part of the hot path is switched off alone, by taking it out of the source of the real functions, and the whole is
measured again: what is saved is what the part costs. A part that is no longer found there is said, not guessed. Parts
overlap in the processor, so their sum is not the whole. Primitives are timed by themselves beside that.
"""

import asyncio
import gc
import inspect
import statistics
import sys
import textwrap
import timeit
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

from jobs import CAPACITY, Stopwatch, until
from measure import new_loop
from peers.callboard_actor import Add, Counter, Get
from peers.raw import Raw
from roster import LOOPS

from callboard.runtime import Cell, ChildSpec, System, supervisor
from callboard.runtime.actor import context, envelope, handlers, mailbox
from callboard.runtime.dispatch import cell, scheduler
from callboard.runtime.dispatch.scheduler import BATCH


class Switch(NamedTuple):
    """In the source of `where`, a method of Cell or one of FUNCTIONS, `old` becomes `new`."""

    where: str
    old: str
    new: str = ""


ROOM = "is there room"
CONTEXT = "is there a context to carry"
HANDLER = "is there a handler"

HANDLING = {
    "is it running, and not held": (
        Switch("run_batch", "if self.state not in HANDLING or self.work is not None:", "if False:"),
        Switch("run_batch", "if self.cold is not None and self.cold.held:", "if False:"),
        Switch("run_batch", "if queue or self.cold is not None or self.state is not RUNNING:", "if queue:"),
    ),
    "one turn for all ready actors": (
        Switch(
            "schedule",
            "scheduler.ready.append(self)",
            "scheduler.loop.call_soon(self.run_batch, context=scheduler.context)",
        ),
        Switch("schedule", "if not scheduler.turning:", "if False:"),
    ),
}
PARTS: dict[str, dict[str, tuple[Switch, ...]]] = {
    "ask": {
        "is this the actor's event loop": (Switch("ask", "or get_ident() != times.thread"),),
        ROOM: (Switch("ask", "or len(self.queue) > self.limit"),),
        CONTEXT: (Switch("ask", "if (outer := current()) is not None:", "if False:"),),
        HANDLER: (Switch("ask", "or message.__class__ not in self.table"),),
        "the clock, when it is sent": (Switch("ask", "times.time() + timeout_s", "1e12"),),
        "the clock, before it is handled": (
            Switch("open_envelope", "cell.scheduler.time() >= envelope.deadline", "False"),
        ),
        "its deadline, kept and taken out": (
            Switch("ask", "asks[envelope] = None", "pass"),
            Switch("reply_with", "envelope.deadline_queue.pop(envelope, None)", "pass"),
        ),
        "its context, set and reset": (
            Switch("open_envelope", "enter(envelope)", "pass"),
            Switch("open_envelope", "enter(None)", "pass"),
        ),
        "was it answered meanwhile": (
            Switch("open_envelope", "(reply is not None and reply.done()) or"),
            Switch("reply_with", "if envelope.reply.done():", "if False:"),
        ),
        "counting": (
            Switch("_handle_one", "self.handled += 1", "pass"),
            Switch("_handle_one", "self.current = item", "pass"),
            Switch("_handle_one", "self.current = None", "pass"),
        ),
        **HANDLING,
    },
    "tell": {
        ROOM: (Switch("tell", "len(queue) > self.limit or"),),
        CONTEXT: (Switch("tell", "outer = current()", "outer = None"),),
        HANDLER: (Switch("tell", "or message.__class__ not in self.table"),),
        "counting": (
            Switch("_handle_many", "self.remaining = remaining = iter(range(size))", "remaining = range(size)"),
        ),
        "did a handler return a coroutine": (
            Switch("_handle_many", "if result is not None and (result := to_await(result)) is not None:", "if False:"),
        ),
        **HANDLING,
    },
}
METHODS = ("tell", "ask", "schedule", "run_batch", "_handle_one", "_handle_many")
FUNCTIONS = (handlers.reply_with, handlers.open_envelope)
SIZE = {"ask": 1500, "tell": 20_000}
ROUNDS = 41


class Variant:
    """The runtime with some switches thrown; `missing` are those whose text was not found."""

    def __init__(self, switches: tuple[Switch, ...]) -> None:
        self.missing: list[Switch] = []
        names = {**vars(handlers), **vars(cell), **vars(scheduler)}
        sources = [self._source(getattr(Cell, name), name, switches) for name in METHODS]
        body = "\n".join(textwrap.indent(source, "    ") for source in sources)
        exec(f"class Switched(Cell):\n    __slots__ = ()\n{body}", names)  # noqa: S102 - our own source
        for function in FUNCTIONS:
            exec(self._source(function, function.__name__, switches), names)  # noqa: S102 - the same
        kind = Counter.handlers
        table = {**kind.first, envelope.Envelope: names["open_envelope"]}
        self.handlers: Any = SimpleNamespace(first=table, by_state={}, all=kind.all)
        self.cell: type[Cell[Any]] = names["Switched"]

    def _source(self, function: Callable[..., Any], name: str, switches: tuple[Switch, ...]) -> str:
        source = textwrap.dedent(inspect.getsource(function))
        for switch in switches:
            if switch.where == name:
                if switch.old not in source:
                    self.missing.append(switch)
                source = source.replace(switch.old, switch.new)
        return source

    async def run(self, what: str, size: int) -> float:
        """Nanoseconds of one ask or tell."""
        made: list[Counter] = []
        ref = self.cell("0", lambda: Counter(made), ChildSpec(mailbox=mailbox.Mailbox(CAPACITY)), self.handlers)
        async with System(supervisor("root", ref)):
            await ref.enqueue(Add(0), Add(0))  # the mailbox is open
            with Stopwatch() as watch:
                if what == "ask":
                    for _ in range(size):
                        await ref.ask(Get(1))
                else:
                    for n in range(size):
                        await ref.tell(Add(1))
                        if not n % BATCH:  # nobody is refused, also without the bound
                            await asyncio.sleep(0)
                    await until(lambda: made[0].total == size)
        return watch.seconds / size * 1e9


class Limit:
    """The raw deque and future."""

    async def run(self, what: str, size: int) -> float:
        """See Variant.run."""
        watch = Stopwatch()
        await getattr(Raw(), what)(size, watch)
        return watch.seconds / size * 1e9


async def saved(what: str, whole: Variant, other: "Limit | Variant", size: int, rounds: int) -> float:
    """By which share `other` is the shorter: the median of rounds in which both have a turn, one after the other."""
    shares = []
    for number in range(rounds):
        turns = (whole, other) if number % 2 else (other, whole)
        times = {run: await run.run(what, size) for run in turns}
        shares.append(1 - times[other] / times[whole])
    return statistics.median(shares)


def alone(what: str, quick: bool) -> dict[str, float]:
    """Primitives by themselves, in nanoseconds, the loop around them taken off. Needs a running event loop."""
    loop = asyncio.get_running_loop()
    get, reply, asks = Get(1), loop.create_future(), dict[Any, None]()
    names = {**vars(cell), "loop": loop, "get": get, "reply": reply, "asks": asks, "Add": Add, "Get": Get}
    names |= {"envelope": envelope.Envelope(get, None, 1.0, reply), "item": (get, reply)}
    names |= {"enter": context.CURRENT.set, "deque": deque()}
    statements = {
        "a message made": "Get(1)",
        "a message in a deque and out": "deque.append(get); deque.popleft()",
    }
    if what == "ask":
        statements |= {
            "an envelope made": "Envelope(get, None, 1.0, reply, None, loop, asks)",
            "a tuple of two made, as the raw limit does": "(get, reply)",
            "a future made": "loop.create_future()",
            "the clock read": "loop.time()",
            "the context read": "current()",
            "the context set and reset": "enter(envelope); enter(None)",
            "a deadline kept and taken out": "asks[envelope] = None; del asks[envelope]",
        }
    number = 1000 if quick else 100_000
    empty = min(timeit.repeat("pass", number=number, repeat=5))
    times = {
        name: min(timeit.repeat(code, globals=names, number=number, repeat=5)) for name, code in statements.items()
    }
    return {name: (seconds - empty) / number * 1e9 for name, seconds in times.items()}


async def profile(what: str, quick: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Cells of the two tables for the running loop, by their lines."""
    size, rounds = (200, 1) if quick else (SIZE[what], ROUNDS)
    whole = Variant(())
    least = min([await whole.run(what, size) for _ in range(rounds)])
    cells = {"the whole": f"{least:.0f}"}
    others: dict[str, Limit | Variant] = {"all that the raw limit has not": Limit()}
    others |= {name: Variant(switches) for name, switches in PARTS[what].items()}
    others["nothing, to see the noise"] = Variant(())
    for name, other in others.items():
        if isinstance(other, Variant) and other.missing:
            cells[name] = "not found in the source"
        else:
            cells[name] = f"{least * await saved(what, whole, other, size, rounds):.0f}"
    return cells, {name: f"{nanoseconds:.0f}" for name, nanoseconds in alone(what, quick).items()}


def main(what: str, *, quick: bool) -> None:
    """Print where the nanoseconds go, on each loop."""
    columns = []
    gc.disable()  # it comes when it comes: its share is seen in the benchmark itself
    for loop in LOOPS:
        with asyncio.Runner(loop_factory=lambda name=loop: new_loop(name)) as runner:  # type: ignore[misc]
            columns.append(runner.run(profile(what, quick)))
    _print(f"One {what}, nanoseconds; what is saved without each part", [each[0] for each in columns])
    _print("By itself", [each[1] for each in columns])


def _print(title: str, columns: list[dict[str, str]]) -> None:
    lines = [[title, *LOOPS], ["---", *("---:" for _ in LOOPS)]]
    lines += [[name, *(column[name] for column in columns)] for name in columns[0]]
    sys.stdout.write("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n")

"""Schedules by seed: run one, replay the one that failed, and race the lifecycle of a tree through many."""

import asyncio
import os
import random
import shlex
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from callboard.runtime.actor.errors import RuntimeFault
from callboard.runtime.dispatch.cell import Cell
from callboard.runtime.dispatch.node import Node, State
from callboard.runtime.supervision.pool import Pool
from callboard.runtime.supervision.snapshot import children_of
from callboard.runtime.supervision.supervisor import Supervisor
from callboard.runtime.supervision.system import System
from callboard.runtime.testkit.seeded import SeededLoop

T = TypeVar("T")

SEED = "CALLBOARD_SEED"
LONG_S = 3600.0  # virtual: what takes longer does not end
PAUSES_S = (0.0, 0.0, 0.01, 0.1, 1.0)


class LeftOverError(AssertionError):
    """A scenario has ended and left something: a task, an actor that runs, a message without a fate."""


def seeds(count: int) -> Iterable[int]:
    """The seeds to play: `count` of them, or only that of the environment variable CALLBOARD_SEED, if it is set."""
    one = os.environ.get(SEED)
    return range(count) if one is None else (int(one),)


def run(main: Callable[[], Coroutine[Any, Any, T]], seed: int) -> T:
    """Run `main()` on a SeededLoop: what one seed does, it does again.

    An error has a note that says how to replay it. Raises LeftOverError when tasks are left, TimeoutError when it has
    not ended in an hour of virtual time, StuckError when nothing can happen any more, and what a callback raised.

    Two things of the outside world come into it: the environment's randomness, so take `random.Random(seed)`, and
    Python's salt of text hashes, by which pools and sets order text. Set PYTHONHASHSEED if you have keys that are text.
    """
    faults: list[BaseException] = []
    try:
        with asyncio.Runner(loop_factory=partial(SeededLoop, seed)) as runner:
            runner.get_loop().set_exception_handler(partial(_note, faults))
            result = runner.run(_whole(main))
        if faults:
            raise faults[0]  # noqa: TRY301 - for the note below, like any other
    except BaseException as error:
        error.add_note(f"seed {seed}; replay it: {replay(seed)}")
        raise
    return result


def replay(seed: int) -> str:
    """The command that plays the present test with this seed alone."""
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    test = os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)").split("[")[0]
    return f"{SEED}={seed} {shown} -m pytest {shlex.quote(test)}".rstrip(" '")


def _note(faults: list[BaseException], _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Only errors of callbacks: that an ask's error interests nobody is no fault."""
    error = context.get("exception")
    if error is not None and "never retrieved" not in context.get("message", ""):
        faults.append(error)


async def _whole(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async with asyncio.timeout(LONG_S):
        result = await main()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        raise LeftOverError(f"tasks are left: {sorted(map(repr, left))}")
    return result


def nodes(root: Node) -> list[Node]:
    """A node of a tree and all below it, as of now."""
    return [root, *(node for child in children_of(root) for node in nodes(child))]


# The stress of lifecycles --------------------------------------------------------------------------------------------

Play = Callable[[System, random.Random], Awaitable[None]]


def stress(
    tree: Callable[[], Supervisor],
    seeds: Iterable[int],
    *,
    steps: int = 20,
    play: Play | None = None,
    allowed: tuple[type[BaseException], ...] = (),
) -> None:
    """Race the start and stop of a tree, and in between kills, resizes, and starts and stops of children, by seed.

    `tree` makes a fresh tree each time. `play`, if given, runs beside it, to send messages; it is cancelled at the end.
    Faults of the runtime, as of a tree stopped while it starts, are expected, and those `allowed`: what your start
    hooks may raise. Raises any other, and LeftOverError when after the stop an actor is not stopped, a message has no
    fate, or a task is left. The error's note says how to replay the seed.
    """
    for seed in seeds:
        run(partial(_storm, tree, random.Random(seed), steps, play, (RuntimeFault, *allowed)), seed)  # noqa: S311


async def _storm(
    tree: Callable[[], Supervisor],
    rng: random.Random,
    steps: int,
    play: Play | None,
    allowed: tuple[type[BaseException], ...],
) -> None:
    root = tree()
    seen = dict.fromkeys(nodes(root))
    system = System(root, rng=rng, log=False)  # crashes are meant
    races: list[asyncio.Future[Any]] = [asyncio.ensure_future(system.start())]
    playing = None if play is None else asyncio.ensure_future(play(system, rng))
    for _ in range(rng.randint(0, steps)):
        await asyncio.sleep(rng.choice(PAUSES_S))
        seen.update(dict.fromkeys(nodes(root)))
        if (step := _step(rng, list(seen))) is not None:
            races.append(asyncio.ensure_future(step))
    await asyncio.sleep(rng.choice(PAUSES_S))
    races += [asyncio.ensure_future(system.stop()) for _ in range(rng.randint(1, 2))]
    ends = await asyncio.gather(*races, return_exceptions=True)
    await system.stop()
    if playing is not None:
        playing.cancel()
        ends += await asyncio.gather(playing, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, (asyncio.CancelledError, *allowed)):
            raise end
    seen.update(dict.fromkeys(nodes(root)))
    await asyncio.sleep(LONG_S / 2)  # time enough for whatever might rise again
    _left(list(seen))


def _step(rng: random.Random, seen: list[Node]) -> Coroutine[Any, Any, Any] | None:
    node = rng.choice(seen)
    if isinstance(node, Pool) and rng.random() < 0.8:  # noqa: PLR2004 - pools are there to be resized
        return node.resize(rng.randint(1, 5))
    if isinstance(node, Cell) and rng.random() < 0.6:  # noqa: PLR2004 - most steps are kills
        node.kill()
        return None
    parent = node.parent
    if not isinstance(parent, Supervisor) or isinstance(parent, Pool):
        return None
    return parent.terminate_child(node) if rng.random() < 0.5 else parent.restart_child(node)  # noqa: PLR2004


def _left(seen: list[Node]) -> None:
    for node in seen:
        if node.state not in (State.NEW, State.STOPPED):
            raise LeftOverError(f"{node.path} is {node.state} after the stop")
        if isinstance(node, Cell):
            counts = node.counts()
            fates = [getattr(counts, fate) for fate in counts.__struct_fields__]
            if node.state is State.STOPPED and (counts.pending or min(fates) < 0):
                raise LeftOverError(f"{node.path} has messages without a fate, or with two: {counts}")

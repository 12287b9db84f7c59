"""The senders' own books: what they sent, what was accepted, what became of it; held against the runtime's counts."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from callboard.runtime import (
    Actor,
    ActorStoppedError,
    Cell,
    Counts,
    DeadLettered,
    Lifecycle,
    MailboxFullError,
    Overflow,
    Overflowed,
    Pool,
    Ref,
    Refusal,
    Refused,
    Request,
    RuntimeFault,
    StashFullError,
    State,
    System,
    on,
)
from callboard.runtime.actor.envelope import message_of
from callboard.runtime.actor.mailbox import ACCEPTED


class Job(Request[int], frozen=True):
    """One message of a sender, `n` from 1; `what` is to happen in its handler, for so many `seconds`."""

    id: int
    sender: str
    n: int
    key: int = 0
    what: str = "work"
    seconds: float = 0.0
    timeout_s: float = 5.0


class Quick(Job, frozen=True):
    """Handled by a plain handler."""


class Slow(Job, frozen=True):
    """Handled by an asynchronous one."""


class MessageAccounting:
    """What was sent to a tree: see `settle` and `check`."""

    def __init__(self) -> None:
        self.sent: dict[int, Job] = {}
        self.accepted: dict[int, str] = {}  # who has taken each message: the name of an actor or pool
        self.asks: dict[int, asyncio.Future[int]] = {}
        self.rooms: dict[int, Any] = {}
        self.fates: dict[int, list[str]] = {}  # by handlers and events, in order
        self.stashed: set[int] = set()
        self._aside: set[int] = set()  # by handlers that still run
        self.hands: dict[Any, Job] = {}  # what is in hand, by actor and by key
        self.faults: list[str] = []
        self.waiting: dict[int, str] = {}  # for room
        self._last: dict[tuple[Any, ...], int] = {}
        self._counter: Counter[str] = Counter()

    # Sending ---------------------------------------------------------------------------------------------------------

    def job(self, kind: type[Job], sender: str, **fields: Any) -> Job:
        """A new message of a sender."""
        self._counter[sender] += 1
        job = kind(id=len(self.sent) + 1, sender=sender, n=self._counter[sender], **fields)
        self.sent[job.id] = job
        return job

    def tell(self, ref: Ref[Any], job: Job, *, nowait: bool = False) -> Any:
        """Send; what is given is to be awaited, if the sender wants to wait."""
        name = ref.name  # type: ignore[attr-defined]
        try:
            if nowait:
                ref.tell_nowait(job)
                accepted: Any = ACCEPTED
            else:
                accepted = ref.tell(job)
        except RuntimeFault:
            return ACCEPTED
        if accepted is ACCEPTED:
            self.accepted[job.id] = name
        else:
            self.waiting[job.id] = name
            self.rooms[job.id] = accepted
        return accepted

    def ask(self, ref: Ref[Any], job: Job) -> "asyncio.Future[int] | None":
        """Ask; the reply, or None if it was not accepted."""
        name = ref.name  # type: ignore[attr-defined]
        try:
            reply = ref.ask(job, job.timeout_s)
        except RuntimeFault:
            return None
        self.asks[job.id] = reply
        cells = [ref] if isinstance(ref, Cell) else ref.children  # type: ignore[attr-defined]
        waits = any(message_of(item) is job for cell in cells if cell.cold for item in cell.cold.waiters.values())
        (self.waiting if waits else self.accepted)[job.id] = name
        return reply

    @contextmanager
    def watching(self, system: System) -> Iterator[None]:
        """Note events, and who is let in that waited for room."""
        end = system.subscribe(self._note)
        admit = Cell.admit

        def spy(cell: Cell[Any]) -> None:
            before = [] if cell.cold is None else [(item, room) for room, item in cell.cold.waiters.items()]
            gone = {id(item) for item, room in before if room.done()}
            admit(cell)
            left = set() if cell.cold is None else {id(item) for item in cell.cold.waiters.values()}
            for item, room in before:
                if id(item) in left or id(item) in gone:
                    continue
                if not room.done() or (not room.cancelled() and room.exception() is None):
                    job = message_of(item)
                    self.accepted[job.id] = self.waiting.pop(job.id)

        Cell.admit = spy  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            Cell.admit = admit  # type: ignore[method-assign]
            end()

    def _note(self, event: Lifecycle) -> None:
        fate = {DeadLettered: "dead", Overflowed: "dropped", Refused: "refused"}.get(type(event))
        if fate is not None and isinstance(job := event.message, Job):  # type: ignore[attr-defined]
            self.fates.setdefault(job.id, []).append(fate)

    # Handling --------------------------------------------------------------------------------------------------------

    @contextmanager
    def handling(self, cell: Cell[Any], lane: object, job: Job) -> Iterator[None]:
        """What a handler does, does in here."""
        places = self._begin(cell, lane, job)
        fates = self.fates.setdefault(job.id, [])
        try:
            yield
        except Refusal:
            fates.append("no")
            raise
        except asyncio.CancelledError:
            fates.append("withdrawn" if cell.state in (State.RUNNING, State.DRAINING) else "cancelled")
            raise
        except Exception:
            fates.append("crashed")
            raise
        else:
            fates.append("done")
        finally:
            if fates[-1] == "done" and job.id in self._aside:
                fates.pop()
            self._aside.discard(job.id)
            for place in places:
                self.hands.pop(place, None)

    def _begin(self, cell: Cell[Any], lane: object, job: Job) -> list[object]:
        """Note what a handler has in hand and where, and whatever is wrong with that."""
        if cell.state not in (State.RUNNING, State.DRAINING):
            self.faults.append(f"{cell.path} handles {job} and is {cell.state}")
        slots = [(cell, n) for n in range(cell.handlers.concurrency)]
        slot = next((each for each in slots if each not in self.hands), slots[0])
        places = [slot, *([] if lane is None else [("lane", lane)])]
        for place in places:
            if place in self.hands:
                self.faults.append(f"{cell.path} handles {job} beside {self.hands[place]}")
            self.hands[place] = job
        fates = self.fates.setdefault(job.id, [])
        if lane is not None and not fates and job.id not in self.stashed:
            last = self._last.get((job.sender, lane), 0)
            if last > job.n:
                self.faults.append(f"{cell.path} handles {job} after number {last} of that sender")
            self._last[job.sender, lane] = max(last, job.n)
        return places

    def put_aside(self, actor: Actor[Any], job: Job) -> None:
        """Stash."""
        try:
            actor.stash(job)
        except StashFullError:
            return
        self.stashed.add(job.id)
        self._aside.add(job.id)

    # Holding it against the counts -----------------------------------------------------------------------------------

    def check(self, *refs: Cell[Any] | Pool[Any]) -> None:
        """What must hold at every instant."""
        assert not self.faults, self.faults
        by_name = Counter(self.accepted.values())
        for ref in refs:
            counts = ref.tally()
            own = (
                [counts]
                if isinstance(ref, Cell)
                else [counts, *(cell.tally() for cell in ref.children if isinstance(cell, Cell))]
            )
            for each in own:
                assert min(getattr(each, fate) for fate in Counts.__struct_fields__) >= 0, (ref.name, each)
            assert counts.accepted == by_name[ref.name], (ref.name, counts, by_name[ref.name])

    def turned_away(self, name: str) -> list[Job]:
        """Whose messages that waited for room came back because the actor they waited for had stopped."""
        ends = [(each, room) for each, room in {**self.rooms, **self.asks}.items() if self.waiting.get(each) == name]
        over = [(each, room) for each, room in ends if room.done() and not room.cancelled()]
        return [self.sent[each] for each, room in over if isinstance(room.exception(), ActorStoppedError)]

    def check_end(self, *refs: Cell[Any] | Pool[Any]) -> None:
        """What must hold when all have stopped."""
        self.check(*refs)
        hanging = [self.sent[each] for each, reply in self.asks.items() if not reply.done()]
        assert not hanging, f"asks without an end: {hanging}"
        rooms = [self.sent[each] for each, room in self.rooms.items() if not room.done()]
        assert not rooms, f"senders that wait for ever: {rooms}"
        assert not self.hands, self.hands
        for ref in refs:
            counts = ref.tally()
            assert counts.pending == 0, (ref.name, counts)
            shown = Counter(self.fate(each) for each, name in self.accepted.items() if name == ref.name)
            for fate in ("handled", "dropped", "dead_lettered"):
                assert shown[fate] == getattr(counts, fate), (ref.name, shown, counts)
            # Who asked cannot tell whether its deadline or a crash, or a kill, came first.
            assert 0 <= counts.failed - shown["failed"] <= shown["failed or gone"], (ref.name, shown, counts)
            assert 0 <= counts.expired + counts.returned - shown["gone"] <= shown["failed or gone"], (ref.name, shown)

    def fate(self, each: int) -> str:
        """The one fate of an accepted message, from what its handlers, the events and its asker saw."""
        seen = self.fates.get(each, [])
        asked = each in self.asks
        ends = [fate for fate in seen if fate not in ("crashed", "cancelled", "withdrawn")]
        assert len(ends) <= 1 or ends == ["no", "refused"], (self.sent[each], seen)
        if not ends:
            if asked:
                error = None if self.asks[each].cancelled() else self.asks[each].exception()
                own = getattr(error, "message", None) is self.sent[each]  # and not of something that was asked for it
                if isinstance(error, MailboxFullError) and own:
                    return "dropped"
                gone = self.asks[each].cancelled() or (isinstance(error, RuntimeFault) and own)
                if gone and (not seen or seen[-1] == "withdrawn"):
                    return "gone"
                if gone and (seen[-1] == "crashed" or self.withdrawn(each)):
                    return "failed or gone"
            return "failed" if seen else "gone"
        return {
            "done": "handled",
            "no": "handled" if asked else "failed",
            "refused": "failed",
            "dropped": "dropped",
            "dead": "dead_lettered",
        }[ends[-1]]

    def withdrawn(self, each: int) -> bool:
        """Whether a cancelled handler's asker had gone, which is not a failure."""
        reply = self.asks[each]
        return reply.cancelled() or "gave no reply" in str(reply.exception())


def own(cell: Cell[Any], _job: Job) -> object:
    """A sender's messages to one actor are in order."""
    return cell


def by_key(_cell: Cell[Any], job: Job) -> object:
    """In a pool with a key, a sender's messages of one key are in order."""
    return job.key


def unordered(_cell: Cell[Any], _job: Job) -> None:
    """In a pool without one, there is no order."""


class Accounted(Actor[Quick | Slow]):
    """Does as its messages say, and has the ledger see it."""

    def __init__(
        self,
        ledger: MessageAccounting,
        lane: Callable[[Cell[Any], Job], object] = own,
        next_: Callable[[], Ref[Any]] | None = None,
    ) -> None:
        self.ledger = ledger
        self.lane = lane
        self.next = next_
        self.leaving = False

    def at_work(self, job: Job) -> AbstractContextManager[None]:
        """What a handler does, does in here."""
        if self.leaving:
            self.ledger.faults.append(f"{self.ref.path} handles {job} after its exit")
        return self.ledger.handling(self.ref, self.lane(self.ref, job), job)

    def act(self, job: Job) -> int:
        """What both kinds of handlers do."""
        if job.what == "crash":
            raise ValueError(f"job {job.id}")
        if job.what == "refuse":
            raise Refusal(f"job {job.id}")
        if job.what == "stash" and self.concurrency == 1 and job.id not in self.ledger.stashed:
            self.ledger.put_aside(self, job)
        if job.what == "unstash":
            self.unstash()
        if job.what == "exit":
            self.leaving = True
            self.stop()
        return job.id

    @on(Quick)
    def quick(self, job: Quick) -> int:
        with self.at_work(job):
            return self.act(job)

    @on(Slow)
    async def slow(self, job: Slow) -> int:
        with self.at_work(job):
            if job.what == "nest" and self.next is not None:
                inner = self.ledger.job(Slow, self.ref.path, what="nest", seconds=job.seconds, timeout_s=job.timeout_s)
                reply = self.ledger.ask(self.next(), inner)
                return -1 if reply is None else await reply
            await asyncio.sleep(job.seconds)
            result = self.act(job)
            await asyncio.sleep(job.seconds)
            return result


class Crew(Accounted):
    """Does two things at once."""

    concurrency = 2


WAITS = (Overflow.WAIT, Overflow.REJECT, Overflow.DROP_NEWEST, Overflow.DROP_OLDEST)

"""Entities: an actor for each key, made at its first message, put away when idle, back on its next one.

They are for those who take the library: Callboard keeps such state in PostgreSQL, which its processes share.
What an entity must not forget it writes down in `on_stop` at the latest and reads in `on_start`: being put away ends
its incarnation, with its timers and `run`, and the next one begins with fresh state. Its own reference, `self.ref`,
ends then too: others reach it by its key, through the reference of the entities.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from functools import partial
from heapq import heappop, heappush
from typing import Any, TypeVar, Unpack

from callboard.runtime.actor import events
from callboard.runtime.actor.actor import Actor
from callboard.runtime.actor.envelope import Envelope, is_ask
from callboard.runtime.actor.errors import ENDING, ActorStoppedError, EntitiesFullError, UnhandledMessageError, sound
from callboard.runtime.actor.handlers import Handlers
from callboard.runtime.actor.mailbox import ACCEPTED, Counts, Overflow
from callboard.runtime.actor.messages import Message
from callboard.runtime.actor.options import check_key
from callboard.runtime.actor.ref import Ref
from callboard.runtime.dispatch import transfer
from callboard.runtime.dispatch.cell import Cell
from callboard.runtime.dispatch.child_spec import ChildOptions, ChildSpec, spec_of
from callboard.runtime.dispatch.concurrent import cell_of
from callboard.runtime.dispatch.mailbox_queue import total
from callboard.runtime.dispatch.node import GOING, Node, Parent, State
from callboard.runtime.supervision.entity import Entity, Phase
from callboard.runtime.supervision.props import KeyedProps
from callboard.runtime.supervision.resting_entities import RestingEntities
from callboard.runtime.supervision.supervisor import Intensity, Supervisor, is_being_cancelled
from callboard.runtime.supervision.waiting_senders import WaitingSenders, resume_sender

M = TypeVar("M", bound=Message | None)


class Entities(Supervisor, Ref[M]):
    """A supervisor, one_for_one, of an actor for each key; told and asked like one actor.

    At most `limit` are awake. One more puts away the one that was used longest ago of those that have nothing to do.
    When all are busy, the mailbox's overflow policy decides: wait lets the sender wait, drop_newest drops what is only
    told, and else EntitiesFullError hands the message back. An entity that is put away was idle for `idle_s` at least
    and twice that at most. A normal exit, `self.stop()`, puts it away too, and so does a crash that is not followed by
    a restart. In the tree entities have numbers for names: keys may be secret, and there are too many for labels.
    """

    kind = "entities"

    __slots__ = (
        "_by_name",
        "_entities",
        "_free",
        "_gone",
        "_handlers",
        "_idle_s",
        "_key",
        "_leaving",
        "_limit",
        "_refused",
        "_resting",
        "_senders",
        "_sweep",
        "_waiting",
        "make",
    )

    def __init__(
        self,
        name: str,
        make: Callable[[Any], Actor[Any]],
        handlers: Handlers,
        *,
        key: Callable[[Any], Hashable],
        idle_s: float,
        limit: int,
        intensity: Intensity,
        spec: ChildSpec,
    ) -> None:
        super().__init__(name, (), intensity=intensity, spec=spec)
        check_key(name, key)
        self.make = make
        self._handlers = handlers
        self._key = key
        self._entities: OrderedDict[Hashable, Entity] = OrderedDict()  # what was used longest ago first
        self._by_name: dict[str, Entity] = {}
        self._free: list[int] = []  # numbers of entities that have gone, for the next ones
        self._waiting: deque[Entity] = deque()
        self._leaving = 0
        self._resting = RestingEntities(self._serve)
        self._senders = WaitingSenders()
        self._sweep: asyncio.TimerHandle | None = None
        self._gone = Counts()
        self._refused = Counts()  # of messages that were dropped before there was an entity for them
        self.limit = limit
        self.idle_s = idle_s

    @property
    def limit(self) -> int:
        """How many may be awake. A lower one puts none away before its time."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"entities {self.name} have room for at least 1, not {limit}")
        self._limit = limit
        self._serve()

    @property
    def idle_s(self) -> float:
        """After how many seconds without work an entity is put away."""
        return self._idle_s

    @idle_s.setter
    def idle_s(self, idle_s: float) -> None:
        if not idle_s > 0:
            raise ValueError(f"entities {self.name} are put away after more than 0 s, not {idle_s:g}")
        self._idle_s = idle_s
        self._look_later()

    @property
    def size(self) -> int:
        """How many there are now, those included that come or leave."""
        return len(self._entities)

    def enqueue(self, message: Any, item: Any, *, may_wait: bool = True) -> Awaitable[None]:
        """Put the message into the mailbox of its key's actor, which is made if need be."""
        if self.state in GOING:
            raise ActorStoppedError(self.path, message)
        if message.__class__ not in self._handlers.all:
            raise UnhandledMessageError(self.path, message, sorted(kind.__name__ for kind in self._handlers.all))
        key = self._key(message)
        entity = self._entities.get(key)
        if entity is None:
            if self._senders or not self._make_room():
                return self._overflow(key, message, item, may_wait)
            entity = self._arrive(key)
            accepted = self._hand(entity, message, item, may_wait=may_wait)
            self._serve()
            return accepted
        return self._hand(entity, message, item, may_wait=may_wait)

    def _hand(self, entity: Entity, message: Any, item: Any, *, may_wait: bool) -> Awaitable[None]:
        accepted = entity.cell.enqueue(message, item, may_wait=may_wait)
        entity.told += 1
        if self.scheduler is not None:
            entity.used_at = self.scheduler.time()
        self._entities.move_to_end(entity.key)
        return accepted

    def asker_gone(self, envelope: Envelope) -> None:
        """An asker that waits for a place for the entity of its key waits no more."""
        self._senders.remove(envelope.reply)

    # Places ----------------------------------------------------------------------------------------------------------

    def _make_room(self) -> bool:
        """Whether there is a place for one more, if need be because one that has nothing to do begins to leave."""
        return len(self._entities) - self._leaving < self._limit or self._send_away()

    def _arrive(self, key: Hashable) -> Entity:
        """Make the entity of a key; it starts when it is served."""
        name = str(heappop(self._free) if self._free else len(self._children))
        cell: Cell[M] = cell_of(name, partial(self.make, key), self.spec, self._handlers)
        cell.parent = self
        self._add(cell)
        entity = self._entities[key] = self._by_name[name] = Entity(key, cell)
        self._waiting.append(entity)
        return entity

    def _overflow(self, key: Hashable, message: Any, item: Any, may_wait: bool) -> Awaitable[None]:
        """No place for the entity of a message."""
        policy = self.spec.mailbox.overflow
        asked = is_ask(item)
        if type(item) is Envelope:
            item.cell = self
        if policy is Overflow.WAIT and may_wait and self._senders.count < self.spec.mailbox.max_waiting:
            if asked:
                item.mind()
            return self._senders.add(key, message, item)
        self._emit(events.Overflowed(self.path, message))
        if policy is Overflow.DROP_NEWEST and not asked:
            self._refused.dropped += 1
            return ACCEPTED
        raise EntitiesFullError(self.path, message, self._limit)

    def _serve(self) -> None:
        """Give places that are free, or can be made so, to the entities and the senders that wait for one."""
        if self.state is not State.RUNNING:
            return
        while True:
            self._start_waiting()
            if self._leaving < len(self._waiting):
                if not self._send_away():
                    break
            elif self._senders and self._make_room():
                self._let_in()
            else:
                break
        if not self._senders and not self._waiting:
            self._resting.clear()
        if self._sweep is None:
            self._look_later()

    def _start_waiting(self) -> None:
        while self._waiting and len(self._entities) - len(self._waiting) < self._limit:
            entity = self._waiting.popleft()
            entity.phase = Phase.AWAKE
            self._spawn(self._start(entity))

    def _send_away(self) -> bool:
        """Let the one leave that was used longest ago of those that have nothing to do, if there is one."""
        entity = self._resting.take(self._entities.values())
        if entity is None:
            return False
        self._leave(entity, None)
        return True

    def _let_in(self) -> None:
        """Take the messages of those senders that have waited longest for the entity of their key."""
        key, senders = self._senders.pop()
        if senders:
            entity = self._arrive(key)
            for sender in senders:
                resume_sender(sender, partial(self._hand, entity, may_wait=True))

    # Coming and leaving ----------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self.scheduler is not None  # noqa: S101 - there is nothing to do before the start
        self._recovers(self.scheduler.new_task(work, f"{self.path}!"))

    async def _start(self, entity: Entity) -> None:
        try:
            await entity.cell.start(self)
        except BaseException as error:
            if isinstance(error, ENDING) or is_being_cancelled():
                raise
            told = sound(error)
            self._emit(events.Crashed(entity.cell.path, "on_start", told))
            self.child_exited(entity.cell, told)
        else:
            self._resting.mind(entity)

    def _leave(self, entity: Entity, reason: BaseException | None) -> None:
        """Begin to put an entity away."""
        entity.phase = Phase.LEAVING
        transfer.pause(entity.cell)
        entity.used_at = self.scheduler.time() if self.scheduler is not None else 0.0
        self._entities.move_to_end(entity.key)
        self._leaving += 1
        self._spawn(self._put_away(entity, reason))

    async def _put_away(self, entity: Entity, reason: BaseException | None) -> None:
        cell = entity.cell
        await transfer.passivate(cell, reason)
        self._leaving -= 1
        if transfer.has_messages(cell):  # its next incarnation takes its turn
            entity.phase = Phase.WAITING
            self._waiting.append(entity)
        else:
            await self._forget(entity, reason)
        self._serve()

    async def _forget(self, entity: Entity, reason: BaseException | None) -> None:
        """It has no incarnation and no message: nothing is left of it but its counts."""
        del self._entities[entity.key]
        await entity.cell.stop_after(reason)
        del self._children[entity.cell.name], self._by_name[entity.cell.name]
        heappush(self._free, int(entity.cell.name))
        self._gone = total(self._gone, entity.cell.counts())

    async def _recover(self, child: Node, error: BaseException | None) -> None:
        """Restart an entity after a crash, or put it away."""
        entity = self._by_name.get(child.name)
        if entity is None or entity.cell is not child or entity.phase is not Phase.AWAKE:
            return
        if error is not None and child.spec.restart.after(error):
            await self._restart([child], child, error)
            self._resting.mind(entity)
        else:
            self._leave(entity, error)

    # Idleness --------------------------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        """See to it that there is a look at who was used longest ago when that one may be idle."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        first = next(iter(self._entities.values()), None)
        if first is not None and self.scheduler is not None and self.state is State.RUNNING:
            self._sweep = self.scheduler.loop.call_at(first.used_at + self._idle_s, self._look)

    def _look(self) -> None:
        """Put away who is idle."""
        self._sweep = None
        if self.scheduler is None or self.state is not State.RUNNING:
            return
        now = self.scheduler.time()
        while (entity := next(iter(self._entities.values()), None)) and entity.used_at + self._idle_s <= now:
            others = entity.cell.counts().accepted - entity.told
            if entity.phase is Phase.AWAKE and transfer.is_idle(entity.cell) and others == entity.others:
                self._leave(entity, None)
            entity.others = others
            entity.used_at = now
            self._entities.move_to_end(entity.key)
        self._look_later()

    # Life ------------------------------------------------------------------------------------------------------------

    async def start(self, parent: Parent) -> None:
        """See Node.start. Only what has messages starts."""
        self.parent = parent
        self.scheduler = parent.scheduler
        self._restarted.clear()
        self._leaving = 0
        self._resting.clear()
        self._waiting.clear()
        for entity in list(self._entities.values()):
            entity.phase = Phase.WAITING
            entity.used_at = 0.0 if self.scheduler is None else self.scheduler.time()
            if transfer.has_messages(entity.cell):
                self._waiting.append(entity)
            else:
                await self._forget(entity, None)
        self.state = State.RUNNING
        if self.scheduler is not None:
            self._record.started_at = self.scheduler.time()
        self._serve()

    async def stop(self) -> None:
        """See Node.stop. WaitingSenders that wait for a place get ActorStoppedError."""
        self.state = State.STOPPING
        self._senders.refuse(self.path)
        await super().stop()
        self._look_later()

    def adopt(self, spec: ChildSpec, intensity: Intensity) -> None:
        """See Pool.adopt."""
        self.spec = spec
        self.intensity = intensity
        for entity in self._entities.values():
            transfer.adopt(entity.cell, spec)

    # Watching --------------------------------------------------------------------------------------------------------

    def counts(self) -> Counts:
        """The fates of all messages up to this instant, those of entities that have been put away included."""
        return total(self._gone, self._refused, *(entity.cell.counts() for entity in self._entities.values()))

    @property
    def gone(self) -> Counts:
        """The fates of messages of entities that have been put away, and of those that had no place."""
        return total(self._gone, self._refused)

    def kill(self) -> None:
        """Kill each entity that is awake."""
        for entity in list(self._entities.values()):
            entity.cell.kill()

    async def drain(self, grace_s: float) -> int:
        """See Ref.drain."""
        self.state = State.STOPPING  # takes no messages any more
        left = await asyncio.gather(*(entity.cell.drain(grace_s) for entity in list(self._entities.values())))
        await self.stop()
        return sum(left)


def entities(
    name: str,
    props: "KeyedProps[M] | Callable[[Any], Actor[M]]",
    *,
    key: Callable[[Any], Hashable],
    idle_s: float,
    limit: int,
    intensity: Intensity = Intensity(),  # noqa: B008 - immutable
    **options: Unpack[ChildOptions],
) -> Entities[M]:
    """An actor for each key, made of KeyedProps, or of a class that takes the key alone; `key` maps a message to its
    key. Options are fields of ChildSpec; the mailbox is that of each.
    """
    recipe = props if isinstance(props, KeyedProps) else KeyedProps(props)
    own = spec_of(name, options)
    return Entities(
        name, recipe.make_for, recipe.handlers, key=key, idle_s=idle_s, limit=limit, intensity=intensity, spec=own
    )

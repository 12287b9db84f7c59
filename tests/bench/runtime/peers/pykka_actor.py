"""Pykka: an actor is a thread. There is no event loop; asks in flight are futures that one thread collects."""

import threading
from typing import Any

import pykka
from jobs import ASKERS, MEMBERS, Add, Get, Hop, Stopwatch


class Meet(tuple[Any, ...]):
    """The next actor of the ring."""

    __slots__ = ()


class Counter(pykka.ThreadingActor):
    """Says `finished` when its total is `expected`, or when the ring's message has made its way."""

    def __init__(self, finished: threading.Semaphore, expected: int = 0) -> None:
        super().__init__()
        self.finished = finished
        self.expected = expected
        self.total = 0
        self.next: pykka.ActorRef[Counter]

    def on_receive(self, message: Any) -> Any:
        kind = type(message)
        if kind is Add:
            self.total += message.n
            if self.total == self.expected:
                self.finished.release()
            return None
        if kind is Get:
            self.total += message.n
            return self.total
        if kind is Meet:
            (self.next,) = message
        elif message.left:
            self.next.tell(Hop(message.left - 1))
        else:
            self.finished.release()
        return None


class Pykka:
    """See jobs.Peer."""

    def __init__(self) -> None:
        self.finished = threading.Semaphore(0)

    def tell(self, size: int, watch: Stopwatch) -> None:
        counter = Counter.start(self.finished, size)
        with watch:
            for _ in range(size):
                counter.tell(Add(1))
            self.finished.acquire()
        pykka.ActorRegistry.stop_all()

    def ask(self, size: int, watch: Stopwatch) -> None:
        counter = Counter.start(self.finished)
        with watch:
            for _ in range(size):
                total = counter.ask(Get(1))
        assert total == size
        pykka.ActorRegistry.stop_all()

    def in_flight(self, size: int, watch: Stopwatch) -> None:
        counter = Counter.start(self.finished)
        with watch:
            for _ in range(size // ASKERS):
                replies = [counter.ask(Get(1), block=False) for _ in range(ASKERS)]
                total = [reply.get() for reply in replies][-1]
        assert total == size
        pykka.ActorRegistry.stop_all()

    def fan_out(self, size: int, watch: Stopwatch) -> None:
        counters = [Counter.start(self.finished, size // MEMBERS) for _ in range(MEMBERS)]
        with watch:
            for _ in range(size // MEMBERS):
                for counter in counters:
                    counter.tell(Add(1))
            for _ in counters:
                self.finished.acquire()
        pykka.ActorRegistry.stop_all()

    def ring(self, size: int, watch: Stopwatch) -> None:
        counters = [Counter.start(self.finished) for _ in range(MEMBERS)]
        for counter, after in zip(counters, [*counters[1:], counters[0]], strict=True):
            counter.ask(Meet((after,)))
        with watch:
            counters[0].tell(Hop(size))
            self.finished.acquire()
        pykka.ActorRegistry.stop_all()

    def spawn(self, size: int, watch: Stopwatch) -> None:
        with watch:
            _counters = [Counter.start(self.finished) for _ in range(size)]
        pykka.ActorRegistry.stop_all()

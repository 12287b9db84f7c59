"""The event bus: lifecycle events for whoever subscribes, and for the log what nobody may miss."""

import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable

from callboard.runtime.actor import events
from callboard.runtime.actor.errors import ENDING, format_causes

log = logging.getLogger("callboard.runtime")

Watcher = Callable[[events.Lifecycle], None]


class EventBus:
    """The watchers of one system. `watched` says whether there are any, before an event is made for them."""

    __slots__ = ("_logs", "_loop", "_watchers", "watched")

    def __init__(self, loop: AbstractEventLoop, *, logs: bool) -> None:
        self._loop = loop
        self._logs = logs
        self._watchers: tuple[Watcher, ...] = ()
        self.watched = False

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher`, which must not block, with each lifecycle event; the result ends that.

        What it raises goes to the event loop's exception handler, which logs it; actors and other watchers go on.
        """
        self._watchers = (*self._watchers, watcher)
        self.watched = True
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:  # one of several subscriptions of one watcher, perhaps
                ended = True
                left = list(self._watchers)
                left.remove(watcher)
                self._watchers = tuple(left)
                self.watched = bool(left)

        return end

    def emit(self, event: events.Lifecycle) -> None:
        """Tell the watchers, and the log of a crash and of a supervisor that gives up."""
        if self._logs:
            _log(event)
        for watcher in self._watchers:
            try:
                watcher(event)
            except BaseException as error:
                if isinstance(error, ENDING):
                    raise
                said = f"a watcher of lifecycle events failed on {type(event).__name__} of {event.actor}"
                self._loop.call_exception_handler({"message": said, "exception": error})


def _log(event: events.Lifecycle) -> None:
    """Messages are named by their type: their fields may be secret."""
    if isinstance(event, events.Escalated):
        log.error("%s gave up: %s", event.actor, format_causes(event.error))
    elif isinstance(event, events.Crashed):
        at = f" on {event.message}" if event.message else ""
        log.error("%s crashed%s: %s", event.actor, at, format_causes(event.error), exc_info=event.error)

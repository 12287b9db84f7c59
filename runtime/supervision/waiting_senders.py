"""WaitingSenders that wait until there is a place for the entity of their key."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from callboard.runtime.actor.envelope import Envelope, is_ask
from callboard.runtime.actor.errors import ActorStoppedError

Sender = tuple[Any, Any, "asyncio.Future[Any]"]  # message, item, and what it waits on: an ask, on its reply


class WaitingSenders:
    """Waiting senders by key: the longest wait first, and those of one key in order. A cancelled sender leaves at
    once.
    """

    __slots__ = ("_by_key", "_keys")

    def __init__(self) -> None:
        self._by_key: OrderedDict[Hashable, dict[asyncio.Future[Any], Sender]] = OrderedDict()
        self._keys: dict[asyncio.Future[Any], Hashable] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._keys)

    def add(self, key: Hashable, message: Any, item: Any) -> Awaitable[None]:
        """Let a sender wait; await the result."""
        asked = is_ask(item)
        room: asyncio.Future[Any] = item.reply if asked else asyncio.get_running_loop().create_future()
        if not asked:
            room.add_done_callback(self.remove)
        self._by_key.setdefault(key, {})[room] = (message, item, room)
        self._keys[room] = key
        return room

    def remove(self, room: "asyncio.Future[Any]") -> None:
        """A sender waits no more; harmless for one that does not wait here."""
        if room in self._keys:
            key = self._keys.pop(room)
            senders = self._by_key[key]
            del senders[room]
            if not senders:
                del self._by_key[key]

    def pop(self) -> tuple[Hashable, list[Sender]]:
        """The first key and those of its senders that still wait."""
        key, senders = self._by_key.popitem(last=False)
        for room in senders:
            del self._keys[room]
        return key, [sender for sender in senders.values() if not sender[2].done()]

    def refuse(self, path: str) -> None:
        """Tell all that there will be no place."""
        while self._by_key:
            for message, _, room in self.pop()[1]:
                room.set_exception(ActorStoppedError(path, message))


def resume_sender(sender: Sender, put: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Put a sender's message into a mailbox, and let it go on when that has accepted it."""
    message, item, room = sender
    try:
        accepted = put(message, item)
    except Exception as error:  # noqa: BLE001 - it is handed to the sender, who would have got it from tell
        room.set_exception(error)
        return
    if type(item) is Envelope and item.reply is room:
        return
    if not isinstance(accepted, asyncio.Future):
        room.set_result(None)
        return
    accepted.add_done_callback(lambda inner: _settle(room, inner))
    room.add_done_callback(lambda _: accepted.cancel())


def _settle(room: "asyncio.Future[Any]", inner: "asyncio.Future[Any]") -> None:
    if room.done():
        return
    if inner.cancelled():
        room.cancel()
    elif (error := inner.exception()) is not None:
        room.set_exception(error)
    else:
        room.set_result(None)

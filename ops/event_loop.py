"""The event loop of a process: uvloop, which looks names up in threads of its own.

libuv has two threads for lookups: two that hang stop those of all other servers, and the loop's end waits for both.
Here each name has a thread while it is looked up, and nothing waits for it at the end.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread
from typing import Any

import uvloop

Lookup = tuple[Any, ...]  # the arguments of socket.getaddrinfo


def is_address(host: str) -> bool:
    """Whether a host is given by its address, which needs no lookup."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class EventLoop(uvloop.Loop):
    """Callers that ask for the same name at one time share its lookup, so names bound the number of threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups: dict[Lookup, asyncio.Future[Any]] = {}

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """See asyncio. Raises socket.gaierror."""
        asked = host, port, family, type, proto, flags
        lookup = self._lookups.get(asked)
        if lookup is None:
            lookup = self._lookups[asked] = self.create_future()
            lookup.add_done_callback(lambda done: (self._lookups.pop(asked), done.cancelled() or done.exception()))
            Thread(target=self._look_up, args=(asked, lookup), name="lookup", daemon=True).start()
        return await asyncio.shield(lookup)

    def _look_up(self, asked: Lookup, lookup: "asyncio.Future[Any]") -> None:
        settle: Callable[[Any], None]
        try:
            result: Any = socket.getaddrinfo(*asked)
            settle = lookup.set_result
        except (OSError, UnicodeError) as error:
            result, settle = error, lookup.set_exception
        with suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(lambda: None if lookup.done() else settle(result))

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """See asyncio. The addresses of a name are tried one after another."""
        if not isinstance(host, str) or not host or is_address(host):
            return await super().create_connection(protocol_factory, host, port, **options)
        place = {name: options.pop(name, 0) for name in ("family", "proto", "flags")}
        if options.get("ssl") and options.get("server_hostname") is None:
            options["server_hostname"] = host
        errors: list[OSError] = []
        for _, _, _, _, address in await self.getaddrinfo(host, port, type=socket.SOCK_STREAM, **place):
            try:
                return await super().create_connection(protocol_factory, address[0], address[1], **options)
            except OSError as error:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        raise OSError(f"no address of {host} can be connected to: {'; '.join(map(str, errors))}")

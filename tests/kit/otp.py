"""The server that the supervision tests are played with, as OTP's own tests have one."""

import asyncio
from typing import Any

from callboard.runtime import (
    Actor,
    Cell,
    Props,
    Request,
    Supervisor,
    on,
    worker,
)


class Exit(Request[None], frozen=True):
    """Ends the actor as OTP's tests end their server: `normal`, `shutdown` or `abnormal`."""

    how: str


class Ping(Request[str], frozen=True):
    pass


class Server(Actor[Exit | Ping]):
    """A worker that writes down how its life goes, and fails to start as often as `failures` says."""

    def __init__(self, log: list[str] | None = None, failures: list[Exception] | None = None) -> None:
        self.log = [] if log is None else log
        self.failures = [] if failures is None else failures

    async def on_start(self) -> None:
        if self.failures:
            self.log.append(f"{self.ref.name} fails")
            raise self.failures.pop()
        self.log.append(f"{self.ref.name} starts")

    async def on_stop(self) -> None:
        self.log.append(f"{self.ref.name} stops")

    @on(Exit)
    def exit(self, message: Exit) -> None:
        if message.how == "abnormal":
            raise ValueError(message.how)
        self.stop("shutdown" if message.how == "shutdown" else None)

    @on(Ping)
    def ping(self, _message: Ping) -> str:
        return "pong"


def now() -> float:
    return asyncio.get_running_loop().time()


def servers(names: str, log: list[str] | None = None, **spec: Any) -> list[Cell[Exit | Ping]]:
    return [worker(name, Props(Server, log), **spec) for name in names]


async def end(server: Cell[Exit | Ping], how: str = "abnormal") -> None:
    """Have it end, and the supervisor do what it does."""
    try:
        await server.ask(Exit(how))
    except ValueError:
        assert how == "abnormal"
    await asyncio.sleep(0.001)


def lives(parent: Supervisor) -> dict[str, str]:
    return {child.name: child.state.value for child in parent.children}

"""The routes every listener has: /health, /ready, and, below the base, the catalogue of error codes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import anyio
import msgspec

from callboard.actors.errors import CODES, SERVER_NOT_READY, Detail, Problem
from callboard.http.call import Call, Reply
from callboard.http.errors import status_of
from callboard.http.routing import Access, Route
from callboard.runtime import described

CHECK_S = 1.0

Checks = Mapping[str, Callable[[], Awaitable[None]]]


class Health(msgspec.Struct, frozen=True):
    """The process lives and its event loop turns; nothing else is said."""

    state: Literal["up"]


class Readiness(msgspec.Struct, frozen=True):
    """The checks by name, each "ok"."""

    checks: dict[str, str]


class CodeEntry(msgspec.Struct, frozen=True):
    """An error code, what it means, and the status it comes with."""

    code: str
    status: int
    meaning: str


async def health(call: Call[None, None, object]) -> Reply[Health]:  # noqa: ARG001 - a handler's face
    """Say that the process lives."""
    return Reply(Health("up"))


async def errors(call: Call[None, None, object]) -> Reply[list[CodeEntry]]:  # noqa: ARG001 - a handler's face
    """List every error code there is."""
    return Reply([CodeEntry(code.name, status_of(code), code.meaning) for code in CODES.values()])


def liveness_routes(checks: Checks) -> tuple[Route[object], ...]:
    """/health, and /ready with these checks: each raises when what it checks is away."""

    async def ready(call: Call[None, None, object]) -> Reply[Readiness]:  # noqa: ARG001 - a handler's face
        results = await run_checks(checks)
        failed = tuple(Detail(name, said) for name, said in results.items() if said != "ok")
        if failed:
            raise Problem(SERVER_NOT_READY, details=failed)
        return Reply(Readiness(results))

    return (
        Route("GET", "/health", health, "Is the process up?", "server", Access.PUBLIC, absolute=True, exempt=True),
        Route(
            "GET",
            "/ready",
            ready,
            "Can it serve? The checks by name",
            "server",
            Access.PUBLIC,
            errors=(SERVER_NOT_READY,),
            absolute=True,
            exempt=True,
        ),
    )


CATALOGUE: Route[object] = Route("GET", "/errors", errors, "List every error code", "server", Access.PUBLIC)


async def run_checks(checks: Checks) -> dict[str, str]:
    """Run all checks together, each for a second at most: "ok" or what is wrong, by name."""
    results = dict.fromkeys(checks, "ok")

    async def run(name: str) -> None:
        try:
            with anyio.fail_after(CHECK_S):
                await checks[name]()
        except TimeoutError:
            results[name] = f"no answer within {CHECK_S:g} s"
        except Exception as error:  # noqa: BLE001 - a check answers by raising, whatever its library raises
            results[name] = described(error)

    async with anyio.create_task_group() as group:
        for name in checks:
            group.start_soon(run, name)
    return results

"""The routes of every listener: /health, /ready, and, below the base, the catalogue of error codes."""

from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from typing import Literal

import anyio
import msgspec

from callboard.actors.errors import SERVER_NOT_READY, DegradedError, ErrorCode, FieldError, Problem
from callboard.http.server.errors import status_of
from callboard.http.server.request import HttpRequest, Reply
from callboard.http.server.routing import Access, Route
from callboard.runtime import described

CHECK_S = 1.0

Checks = Mapping[str, Callable[[], Awaitable[None]]]


class Checked(msgspec.Struct, frozen=True):
    """The result of a check: the reason of a failure, or none; a degraded service still does a part of its work."""

    why: str = ""
    is_degraded: bool = False

    @property
    def shown(self) -> str:
        """Return the text of /ready."""
        return f"unhealthy: {self.why}" if self.why else "healthy"


class Health(msgspec.Struct, frozen=True):
    """The process runs and its event loop responds. `state` is removed in the next release."""

    status: Literal["healthy"] = "healthy"
    state: Literal["up"] = "up"


class Readiness(msgspec.Struct, frozen=True):
    """Whether the server is ready, and its checks by name, each "healthy" or "unhealthy: reason"."""

    status: Literal["ready", "degraded"]
    checks: dict[str, str]


class CodeEntry(msgspec.Struct, frozen=True):
    """An error code, its meaning and its HTTP status."""

    code: str
    status: int
    meaning: str


async def health(request: HttpRequest[None, None, object]) -> Reply[Health]:  # noqa: ARG001 - a handler's face
    """Report that the process runs."""
    return Reply(Health())


def liveness_routes(checks: Checks, essential: Container[str] | None = None) -> tuple[Route[object], ...]:
    """Return the routes of /health and of /ready. Each check raises if its server is unavailable.

    If an `essential` check fails, the server cannot serve: only then is /ready 503. With None, every check is
    essential.
    """

    def is_fatal(name: str, result: Checked) -> bool:
        return bool(result.why) and (essential is None or (name in essential and not result.is_degraded))

    async def ready(request: HttpRequest[None, None, object]) -> Reply[Readiness]:  # noqa: ARG001 - a handler's face
        results = await run_checks(checks)
        shown = {name: result.shown for name, result in results.items()}
        if any(is_fatal(name, result) for name, result in results.items()):
            failing_first = sorted(shown, key=lambda name: not results[name].why)
            raise Problem(SERVER_NOT_READY, details=tuple(FieldError(name, shown[name]) for name in failing_first))
        return Reply(Readiness("degraded" if any(result.why for result in results.values()) else "ready", shown))

    return (
        Route(
            "GET",
            "/health",
            health,
            "Check that the process runs",
            "server",
            Access.PUBLIC,
            absolute=True,
            skips_limits_and_auth=True,
        ),
        Route(
            "GET",
            "/ready",
            ready,
            "Check that the server is ready",
            "server",
            Access.PUBLIC,
            errors=(SERVER_NOT_READY,),
            absolute=True,
            skips_limits_and_auth=True,
        ),
    )


def catalogue_route(codes: Iterable[ErrorCode]) -> Route[object]:
    """Return the route that lists these error codes."""
    entries = [CodeEntry(code.name, status_of(code), code.meaning) for code in codes]

    async def errors(request: HttpRequest[None, None, object]) -> Reply[list[CodeEntry]]:  # noqa: ARG001 - a handler's face
        """List all error codes."""
        return Reply(entries)

    return Route("GET", "/errors", errors, "List every error code", "server", Access.PUBLIC)


async def run_checks(checks: Checks) -> dict[str, Checked]:
    """Run all checks at once, each for at most a second."""
    results = dict.fromkeys(checks, Checked())

    async def run(name: str) -> None:
        try:
            with anyio.fail_after(CHECK_S):
                await checks[name]()
        except TimeoutError:
            results[name] = Checked(f"no response within {CHECK_S:g} s")
        except DegradedError as error:
            results[name] = Checked(str(error), is_degraded=True)
        except Exception as error:  # noqa: BLE001 - a check answers by raising, whatever its library raises
            results[name] = Checked(error.message if isinstance(error, Problem) else str(error) or described(error))

    async with anyio.create_task_group() as group:
        for name in checks:
            group.start_soon(run, name)
    return results

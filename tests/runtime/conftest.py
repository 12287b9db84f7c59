"""The runtime's tests run under virtual time, each on an event loop of its own.

With CALLBOARD_EAGER_TASKS set, every loop of asyncio has eager tasks: see kit/interpreters.py. (The uvloop of today
calls a task factory as Python 3.14 does, which the eager one of 3.12 and 3.13 does not bear.)
"""

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any

import pytest

from callboard.runtime.testkit import VirtualTimeLoop

if os.environ.get("CALLBOARD_EAGER_TASKS"):

    class EagerRunner(asyncio.Runner):
        """A Runner of a loop with eager tasks."""

        def __init__(
            self, *, debug: bool | None = None, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
        ) -> None:
            make = loop_factory or asyncio.new_event_loop

            def eager_loop() -> asyncio.AbstractEventLoop:
                loop = make()
                if isinstance(loop, asyncio.BaseEventLoop):
                    loop.set_task_factory(asyncio.eager_task_factory)
                return loop

            super().__init__(debug=debug, loop_factory=eager_loop)

    asyncio.Runner = asyncio.runners.Runner = EagerRunner  # type: ignore[misc]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Virtual time: a test that waits for an hour takes no time, and always the same."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test on the loop it asks for: anyio would go on with one that other folders' fixtures hold open."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    backend = pyfuncitem.funcargs.get("anyio_backend", ("asyncio", {"loop_factory": VirtualTimeLoop}))
    options = backend[1] if isinstance(backend, tuple) else {}
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    with asyncio.Runner(loop_factory=_loop_factory(options)) as runner:
        runner.run(pyfuncitem.obj(**arguments))
    return True


def _loop_factory(options: dict[str, Any]) -> Any:
    if options.get("use_uvloop"):
        import uvloop  # noqa: PLC0415 - only where a test asks for it

        return uvloop.new_event_loop
    return options.get("loop_factory")

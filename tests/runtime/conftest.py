"""The runtime's tests run under virtual time, each on an event loop of its own."""

import asyncio
import inspect
from typing import Any

import pytest

from callboard.runtime.testkit import VirtualTimeLoop


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

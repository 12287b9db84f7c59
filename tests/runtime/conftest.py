"""The runtime's tests run under virtual time."""

from typing import Any

import pytest

from callboard.runtime.testkit import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Virtual time: a test that waits for an hour takes no time, and always the same."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}

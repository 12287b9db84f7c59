"""Tests of operations run commands and applications in this process, which configure its logging."""

from collections.abc import Iterator

import pytest
from kit.logging_state import kept_levels


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    with kept_levels():
        yield

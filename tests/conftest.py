"""One running `callboard up` for every test that does not harm it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Up, one_up


@pytest.fixture(scope="session")
def up() -> Iterator[Up]:
    """Shared: leave it as well as you found it, and make accounts and articles of your own."""
    with one_up() as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that tests/unsettled.txt names, show how they end, and let none of them fail the run."""
    lines = (Path(__file__).with_name("unsettled.txt")).read_text(encoding="utf-8").splitlines()
    prefixes = tuple(line for line in lines if line and not line.startswith("#"))
    for item in items:
        if item.nodeid.startswith(prefixes):
            item.add_marker(pytest.mark.xfail(reason="tests/unsettled.txt", strict=False))

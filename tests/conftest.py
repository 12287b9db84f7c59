"""One running `callboard up` for every test that does not harm it."""

from collections.abc import Iterator

import pytest
from running import Up, one_up


@pytest.fixture(scope="session")
def up() -> Iterator[Up]:
    """Shared: leave it as well as you found it, and make accounts and articles of your own."""
    with one_up() as running:
        yield running

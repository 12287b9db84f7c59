"""One running `callboard up` for every test that does not harm it."""

from collections.abc import Iterator

import pytest
from kit.running import Up, one_up


@pytest.fixture(scope="session")
def up() -> Iterator[Up]:
    """Shared: leave it as well as you found it, and make accounts and articles of your own."""
    with one_up() as running:
        yield running


# A fixture of one of these names starts servers, or processes that do: `make check` leaves its tests out.
STARTS_SERVERS = frozenset(
    {"up", "fragile", "folder", "place", "jobs_place", "public_folder", "servers", "pair", "server"}
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need servers, by their fixtures."""
    for item in items:
        if not STARTS_SERVERS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.servers)

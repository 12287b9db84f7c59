"""A process that conceals which addresses have an account."""

from collections.abc import Iterator

import pytest
from kit.running import Up
from kit.twins import ProcessGroup, twins


@pytest.fixture(scope="module")
def concealing(up: Up) -> Iterator[ProcessGroup]:
    """One process with the API alone: what its own work on the mails would add is noise."""
    with twins(up, 1, REGISTRATION_CONFLICT="conceal", RATE_LIMIT_ACCOUNT="1000000") as one:
        yield one

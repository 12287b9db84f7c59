"""Known and unknown addresses: the same status, the same body, the same headers. drill_alike.py measures their time."""

import random
from collections.abc import Iterator

import pytest
from kit.alike import CASES, compared
from kit.running import Up
from kit.twins import ProcessGroup, twins

PAIRS = 8


@pytest.fixture(scope="module")
def concealing(up: Up) -> Iterator[ProcessGroup]:
    """One process with the API alone: what its own work on the mails would add is noise."""
    with twins(up, 1, REGISTRATION_CONFLICT="conceal", RATE_LIMIT_ACCOUNT="1000000") as one:
        yield one


@pytest.mark.parametrize("name", CASES)
def test_known_and_unknown_addresses_are_answered_alike(concealing: ProcessGroup, name: str) -> None:
    compared(concealing, CASES[name], random.Random(name), PAIRS)  # noqa: S311 - an order, no secret

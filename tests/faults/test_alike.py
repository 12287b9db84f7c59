"""Known and unknown addresses: the same status, the same body, the same headers. drill_alike.py measures their time."""

import random

import pytest
from kit.alike import CASES, compared
from kit.twins import ProcessGroup

PAIRS = 8


@pytest.mark.parametrize("name", CASES)
def test_known_and_unknown_addresses_are_answered_alike(concealing: ProcessGroup, name: str) -> None:
    compared(concealing, CASES[name], random.Random(name), PAIRS)  # noqa: S311 - an order, no secret

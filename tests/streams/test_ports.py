"""Streams judges a refusal by its attributes: it knows no error of the layers above."""

import pytest

from callboard.actors import errors
from callboard.ops.departments import OURS, declared_by
from callboard.runtime import Refusal
from callboard.streams.ports import passes, timed_out

ALL = declared_by(OURS).errors
PASSING = {errors.ErrorKind.UNAVAILABLE, errors.ErrorKind.LIMITED}


def test_of_all_codes_those_pass_that_say_try_again() -> None:
    passing = {code.kind for code in ALL if passes(errors.Problem(code))}
    assert passing == PASSING
    final = {code.kind for code in ALL if not passes(errors.Problem(code))}
    assert not final & PASSING


def test_a_statement_that_took_too_long_is_the_only_refusal_for_time() -> None:
    assert [code for code in ALL if timed_out(errors.Problem(code))] == [errors.SERVER_TIMEOUT]


class Claiming(Exception):  # noqa: N818 - it is no refusal, which is the point
    """An error that is no refusal, with the attributes of one."""

    passes = timed_out = True


@pytest.mark.parametrize("error", [Refusal("no"), Claiming("a crash"), ValueError()])
def test_an_error_that_does_not_say_that_it_passes_is_final(error: Exception) -> None:
    assert not passes(error)
    assert not timed_out(error)

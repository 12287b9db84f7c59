"""The number of examples of a property test: a fifth for `make check`, five times as many for `make test-thorough`."""

from hypothesis import settings

ALL = 100  # the examples of a property test that names no number of its own

settings.register_profile("check", max_examples=ALL // 5)
settings.register_profile("thorough", max_examples=ALL * 5)


def examples(number: int) -> int:
    """Return the number of examples to try, at least one: as many as the profile has, measured by ALL."""
    return max(1, number * settings.default.max_examples // ALL)  # type: ignore[union-attr] - it is set once imported

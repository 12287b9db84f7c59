"""A key that an object has twice is named by its path."""

import pytest

from callboard.streams.json_keys import repeated_keys


@pytest.mark.parametrize(
    ("raw", "paths"),
    [
        (b'{"a": 1, "b": ":"}', []),
        (b'{"a": {"x": 1}, "b": {"x": 1}}', []),
        (b'{"a": 1, "\\u0061": 2}', ["a"]),
        (b'{"a": 1, "a": {"b": 1, "b": 2}}', ["a", "a.b"]),
        (b'{"preferences": {"a": 1, "a": 2}}', ["preferences.a"]),
        (b'[{"a": 1}, {"a": [{"": 1, "": 2}]}]', ["[1].a[0]."]),
        (b'"a:a"', []),
    ],
)
def test_each_key_that_is_there_twice_has_its_path(raw: bytes, paths: list[str]) -> None:
    assert repeated_keys(raw) == paths

"""File descriptors: raised as far as they go, and some never a client's."""

import logging
import resource
from unittest import mock

import pytest

from callboard.http.server.connection_limits import MIN_CONNECTIONS, ConnectionLimits
from callboard.ops.descriptors import RESERVED_DESCRIPTORS, raise_limit


def limited(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> mock.Mock:
    state = [(soft, hard)]
    setting = mock.Mock(side_effect=lambda _, pair: state.__setitem__(0, pair))
    monkeypatch.setattr(resource, "getrlimit", lambda _: state[0])
    monkeypatch.setattr(resource, "setrlimit", setting)
    return setting


def test_the_soft_limit_becomes_the_hard_one(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    setting = limited(monkeypatch, 256, 65_536)
    raise_limit(4096)
    setting.assert_called_once_with(resource.RLIMIT_NOFILE, (65_536, 65_536))
    assert caplog.records == []
    assert ConnectionLimits(connections=4096, reserve=RESERVED_DESCRIPTORS).most == 4096


def test_a_limit_that_is_too_low_is_said_and_leaves_a_reserve(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limited(monkeypatch, 400, 400)
    with caplog.at_level(logging.WARNING):
        raise_limit(4096)
    assert "may open only 400 files: it accepts 240 client connections" in caplog.text
    assert ConnectionLimits(connections=4096, reserve=RESERVED_DESCRIPTORS).most == 400 - RESERVED_DESCRIPTORS
    limited(monkeypatch, 100, 100)
    assert ConnectionLimits(connections=4096, reserve=RESERVED_DESCRIPTORS).most == MIN_CONNECTIONS

"""One running `callboard up` for every test that does not harm it."""

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.property_examples import examples as _examples  # noqa: F401 - registers the profile
from kit.running import Up, one_up

gc.disable()  # while tests are collected: all of it stays, and a look through it now and then is a fifth of that time


@pytest.fixture(scope="session")
def up() -> Iterator[Up]:
    """Shared: leave it as well as you found it, and make accounts and articles of your own."""
    with one_up() as running:
        yield running


# A fixture of one of these names starts servers, or processes that do: `make check` leaves its tests out.
STARTS_SERVERS = frozenset(
    {"up", "fragile", "folder", "place", "jobs_place", "public_folder", "servers", "pair", "server", "site", "apache"}
    | {"flooded", "guarded", "with_polls", "s3", "bucket"}
)
SERVERS = frozenset({"initdb", "postgres", "valkey-server", "tansu", "java"})
_running: list[pytest.Item] = []  # the test that runs now


def pytest_xdist_auto_num_workers() -> int:
    """A worker more than there are cores: tests wait for servers, threads, sockets and processes."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need servers, by their fixtures. Begin with the files that take long, and those with servers:
    at the end, when a worker has nothing left to do, the others have little.
    """
    for item in items:
        if not STARTS_SERVERS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.servers)
    long, served = ({item.path for item in items if item.get_closest_marker(mark)} for mark in ("long", "servers"))
    items.sort(key=lambda item: (item.path not in long, item.path not in served))


def pytest_collection_finish() -> None:
    """Look for garbage again, and never among what was collected."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that starts a server and is not marked so."""
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.clear()


@pytest.fixture(autouse=True, scope="session")
def _watch_for_servers() -> None:
    sys.addaudithook(_notice_server)


def _notice_server(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and _running and _running[0].get_closest_marker("servers") is None:
        words, test = [str(each) for each in arguments[1]], _running[0].nodeid
        starts = Path(words[0]).name in SERVERS and "--version" not in words
        if starts or ("callboard.ops" in words and "up" in words):
            raise AssertionError(f"{test} starts {words[0]}: mark it as `servers`, by its fixture in tests/conftest.py")

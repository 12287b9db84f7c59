"""The state of logging is the process's own: a test that configures it leaves none of it to the tests after it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from callboard.ops.logs import LIBRARIES


@contextmanager
def kept_levels() -> Iterator[None]:
    """Put the levels of our loggers, of the libraries' and of the root back at the end of the block."""
    before = [
        (logger, logger.level)
        for name in ("", "callboard", "callboard.audit", *LIBRARIES)
        for logger in [logging.getLogger(name)]
    ]
    try:
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)


@contextmanager
def kept_logging() -> Iterator[None]:
    """Begin without the root's handlers, which are pytest's; put them and all levels back at the end of the block."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.handlers.clear()
    try:
        with kept_levels():
            yield
    finally:
        for added in root.handlers:
            added.close()
        root.handlers[:] = handlers

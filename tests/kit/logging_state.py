"""The state of logging is the process's own: a test that configures it leaves none of it to the tests after it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from callboard.ops.logs import LIBRARIES


@contextmanager
def kept_logging() -> Iterator[None]:
    """Begin without handlers of the root, which are pytest's; put all back at the end of the block."""
    loggers = [logging.getLogger(name) for name in ("", "callboard", "callboard.audit", *LIBRARIES)]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    loggers[0].handlers.clear()
    try:
        yield
    finally:
        for logger, level, handlers, propagate in before:
            for added in [each for each in logger.handlers if each not in handlers]:
                added.close()
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate

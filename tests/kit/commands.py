"""Commands of `callboard` in this process. One in a process of its own spends more than a second on its imports: a test
of what only a process has, such as its signals or its order of imports, runs a `kit.running.Command` instead.
"""

import io
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

import pytest

from callboard.ops.cli import main
from kit.environment import own_environment
from kit.logging_state import kept_levels
from kit.running import Up


class Said(NamedTuple):
    """The exit status of a command, and what it said."""

    status: int
    output: str
    errors: str


def run_command(*arguments: str, up: Up | None = None, environment: Mapping[str, str] | None = None) -> Said:
    """Run a command to its end, on the servers of `up`, in a thread: a test may have a loop of its own."""
    output, errors = io.StringIO(), io.StringIO()
    given = {"CALLBOARD_DATA_DIR": str(up.data)} if up is not None else {}
    environ = own_environment() | given | dict(environment or {})
    with (
        patch.dict(os.environ, environ, clear=True),
        kept_levels(),
        redirect_stdout(output),
        redirect_stderr(errors),
        ThreadPoolExecutor(1) as apart,
    ):
        status = apart.submit(_status_of, arguments).result()
    return Said(status, output.getvalue(), errors.getvalue())


def _status_of(arguments: tuple[str, ...]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    status = ended.value.code
    assert isinstance(status, int)
    return status

"""The environment of a command of ours that a test runs."""

import os
import re

# What steers Callboard is the test's business, and not that of who runs it.
_STEERING = re.compile(r"(?:HTTP|OPS|CALLBOARD|DATABASE|REDIS|KAFKA|SMTP|JWT|RATE|REQUEST|LOG|TOPIC|OTEL)_|ROLES$")


def own_environment() -> dict[str, str]:
    """This process's environment, without what steers Callboard."""
    return {name: value for name, value in os.environ.items() if not _STEERING.match(name)}

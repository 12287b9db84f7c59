"""File descriptors: the system's maximum for the process, with a reserve that clients never use."""

import logging
import resource

from callboard.http.server.connection_limits import ConnectionLimits
from callboard.ops.config.settings import Config

RESERVED_DESCRIPTORS = 160  # for the operator plane, the connection pools, Kafka, Redis, files and pipes
OPERATORS_LIMITS = ConnectionLimits(connections=64, per_address=64, unsent_bytes=16 << 20)

log = logging.getLogger(__name__)


def raise_limit(wanted: int) -> None:
    """Raise the soft limit of open files to the hard one; log if it is too low for `wanted` connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # a system that does not allow it
            log.warning("the limit of open files stays at %d: %s", soft, error)
        else:
            soft = hard
    if soft != resource.RLIM_INFINITY and soft - RESERVED_DESCRIPTORS < wanted:
        room = max(0, soft - RESERVED_DESCRIPTORS)
        log.warning(
            "the process may open only %d files: it accepts %d client connections, not %d as configured",
            soft,
            room,
            wanted,
        )


def limits_of(config: Config) -> ConnectionLimits:
    """Return the limits of the HTTP server's connections."""
    return ConnectionLimits(
        connections=config.http_max_connections,
        per_address=config.http_max_connections_per_address,
        unsent_bytes=config.http_max_unsent_bytes,
        reserve=RESERVED_DESCRIPTORS,
    )

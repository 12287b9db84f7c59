"""The mail servers: the first, and one to fall back to, each behind a circuit breaker.

A mail goes to the first server whose breaker is closed, and on to the next if that one could not take it. A mail whose
outcome is unknown is sent again only by the server that may have it: no second copy comes from a fallback. If that
server has left the settings, any other may send it.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from callboard.actors.delivery.mail_message import OutgoingMail
from callboard.actors.delivery.mail_monitor import MailMonitor
from callboard.actors.delivery.mail_retries import WAITING, opens_breaker, passes_on, reason_of
from callboard.actors.delivery.smtp_client import SmtpClient
from callboard.actors.delivery.smtp_errors import SmtpError
from callboard.actors.delivery.smtp_settings import (
    DEFAULT_LIMITS,
    RFC_TIMEOUTS,
    ConnectionLimits,
    SmtpSettings,
    SmtpTimeouts,
)
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.runtime import SpanKind, in_span

MAX_PROBES = 8  # mails that may be under way once the breaker has opened gradually: after three successes, all


class MailServer:
    """One server, for all workers of a process: its settings, its results, and its circuit breaker."""

    def __init__(
        self,
        settings: SmtpSettings,
        monitor: MailMonitor,
        *,
        timeouts: SmtpTimeouts = RFC_TIMEOUTS,
        limits: ConnectionLimits = DEFAULT_LIMITS,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.settings = settings
        self.monitor = monitor
        self.timeouts = timeouts
        self.limits = limits
        self.breaker = breaker or CircuitBreaker("smtp")

    def is_available(self) -> bool:
        """Whether the breaker lets one more mail through."""
        return self.breaker.has_room(self.breaker.running + MAX_PROBES)

    async def send(self, client: SmtpClient, mail: OutgoingMail, before_dot: Callable[[str], Awaitable[None]]) -> None:
        """Send a mail by a worker's client, and note for the breaker how that went. Raises SmtpError.

        It is sent even if the breaker is open: the route has looked, and has no other server.
        """
        client.use(self.settings)
        with self.breaker.call(fault_of, self.breaker.running + MAX_PROBES, even_if_open=True):
            await client.send(
                sender=mail.sender,
                recipient=mail.recipient,
                content=mail.content,
                before_dot=partial(before_dot, self.settings.name),
            )


def fault_of(error: Exception) -> str | None:
    """Return the reason if the server takes no mail at all, nothing if it has answered this one."""
    if not isinstance(error, SmtpError):
        return None
    return str(error) if opens_breaker(reason_of(error), error) else ""


class MailRoute:
    """One worker's way to the servers: a client for each, in their order."""

    def __init__(self, servers: Sequence[MailServer]) -> None:
        self.clients = [(server, SmtpClient(server.settings, server.timeouts, server.limits)) for server in servers]

    @property
    def first(self) -> MailServer:
        """Return the server that gets a mail first."""
        return self.clients[0][0]

    async def send(
        self, mail: OutgoingMail, before_dot: Callable[[str], Awaitable[None]], *, only: str | None = None
    ) -> MailServer:
        """Send a mail by the first server that can take it, or by the `only` one if there is one; return that server.

        `before_dot` gets the server's name. Raises DeliveryError for the failure that decides: the last one that says
        something of the mail, or else the first.
        """
        failures: list[DeliveryError] = []
        for server, client in self._candidates(only):
            try:
                with in_span("EXT smtp send", SpanKind.CLIENT, {"server.name": server.settings.name}):
                    await server.send(client, mail, before_dot)
            except SmtpError as error:
                failures.append(DeliveryError(server, error))
                if not passes_on(failures[-1].reason, error):
                    break
            else:
                _note_passed_on(failures)
                return server
        decisive = next((each for each in reversed(failures) if each.reason not in WAITING), failures[0])
        _note_passed_on([each for each in failures if each is not decisive])
        raise decisive from decisive.error

    def _candidates(self, only: str | None) -> list[tuple[MailServer, SmtpClient]]:
        """Return the servers to try. If no breaker is closed all are: the job queue paces the attempts then."""
        if named := [each for each in self.clients if each[0].settings.name == only]:
            return named
        return [each for each in self.clients if each[0].is_available()] or self.clients

    def close(self) -> None:
        """Close the kept connections."""
        for _, client in self.clients:
            client.close()


class DeliveryError(Exception):
    """A server did not accept the mail."""

    def __init__(self, server: MailServer, error: SmtpError) -> None:
        self.server = server
        self.error = error
        self.reason = reason_of(error)
        super().__init__(f"{self.reason}: {error}")


def _note_passed_on(failures: Sequence[DeliveryError]) -> None:
    for failure in failures:
        failure.server.monitor.failed("passed_on", failure.reason, failure.error)

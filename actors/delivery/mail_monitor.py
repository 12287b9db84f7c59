"""The results of sending mail: counted, logged once for each new reason, and shown in /ready while the server fails."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from callboard.actors.delivery.mail_retries import WAITING, Reason
from callboard.actors.delivery.smtp_errors import Phase, SmtpError
from callboard.actors.errors import SERVER_UNAVAILABLE, Problem

MAX_REASONS = 256  # reasons that are remembered; the oldest is logged again when it comes back

log = logging.getLogger(__name__)

Count = Callable[[str, str], None]  # by result and reason


def count_nothing(_result: str, _reason: str) -> None:
    """Ignore a result."""


class MailMonitor:
    """One process's results with one server. `count` gets a result (sent, passed_on, delayed, failed, dead) and its
    reason.
    """

    def __init__(
        self, count: Count = count_nothing, clock: Callable[[], float] = time.monotonic, server: str = "mail server"
    ) -> None:
        self._server = server
        self._count = count
        self._clock = clock
        self._logged: OrderedDict[str, None] = OrderedDict()
        self._trouble: str | None = None
        self._trouble_at = 0.0

    def accepted(self) -> None:
        """Note that the server accepted a mail."""
        self._count("sent", "accepted")
        if self._trouble is not None:
            log.warning("the %s accepts mail again", self._server)
            self._trouble = None
            self._logged.clear()  # the next outage is logged again

    def failed(self, result: str, reason: Reason, error: SmtpError) -> None:
        """Note a failed attempt. The mail server is reported as failing if it or our settings are the reason."""
        self._count(result, reason)
        if reason in WAITING or error.phase is Phase.MAIL:
            self._trouble, self._trouble_at = f"{reason}: {error}", self._clock()
        self._log_once(f"{reason} {error.phase} {error.fault} {error.code}", reason, str(error))

    def unwritable(self, reason: str) -> None:
        """Note that a mail could not be written, and is dead."""
        self._count("dead", Reason.INVALID)
        self._log_once(reason, Reason.INVALID, reason)

    async def check(self) -> None:
        """Raise Problem(SERVER_UNAVAILABLE) while the last contact with the mail server failed."""
        if self._trouble is not None:
            ago_s = self._clock() - self._trouble_at
            raise Problem(SERVER_UNAVAILABLE, f"{self._server}, {ago_s:.0f} s ago: {self._trouble}")

    def _log_once(self, key: str, reason: str, said: str) -> None:
        if key in self._logged:
            self._logged.move_to_end(key)
            return
        self._logged[key] = None
        if len(self._logged) > MAX_REASONS:
            self._logged.popitem(last=False)
        log.warning("a mail was not sent by the %s (%s): %s; repetitions are only counted", self._server, reason, said)

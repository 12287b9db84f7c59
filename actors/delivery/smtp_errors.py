"""The failures of a delivery over SMTP: the phase, the kind of failure, and the server's reply."""

import ssl
from enum import StrEnum

import aiosmtplib
from aiosmtplib import SMTPStatus

from callboard.actors.delivery.mail_text import without_addresses


class Phase(StrEnum):
    """The steps of a delivery, in their order. FINAL is the wait for the reply to the final dot.

    RESET is the first command on a connection that was kept from an earlier mail.
    """

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "EHLO"
    TLS = "TLS"
    AUTH = "AUTH"
    RESET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "body"
    FINAL = "final dot"


class Fault(StrEnum):
    """The kinds of failure."""

    REPLY = "reply"  # the server refused; `code` is its reply
    TIMEOUT = "timeout"
    CLOSED = "connection closed"
    UNREACHABLE = "unreachable"
    GARBLED = "not SMTP"
    TLS = "TLS failed"
    UNSUPPORTED = "not offered"
    TOO_LARGE = "too large"
    INVALID = "cannot be sent"


class SmtpError(Exception):
    """The server did not accept a mail, or the outcome is unknown. The message holds no address: servers quote the
    recipient.
    """

    def __init__(self, phase: Phase, fault: Fault, code: int | None = None, text: str = "") -> None:
        self.phase = phase
        self.fault = fault
        self.code = code
        self.text = without_addresses(text)[:200]
        said = " ".join(str(part) for part in (code, self.text) if part)
        super().__init__(f"{phase}: {said}" if fault is Fault.REPLY else f"{phase}: {fault} {said}".strip())


class TooLargeError(ValueError):
    """The server accepts no mail of this size."""


FAILURES = (aiosmtplib.SMTPException, OSError, ValueError)  # all that the library and the system raise


def smtp_error(phase: Phase, error: Exception) -> SmtpError:
    """Return the error of a phase for an exception of the library or the system."""
    text = str(error)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        if error.code == SMTPStatus.invalid_response:
            return SmtpError(phase, Fault.GARBLED, text=error.message)
        return SmtpError(phase, Fault.REPLY, error.code, error.message)
    cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else error
    fault = Fault.INVALID
    if isinstance(cause, ssl.SSLError):
        fault, text = Fault.TLS, str(cause)
    elif isinstance(error, TimeoutError):
        fault, text = Fault.TIMEOUT, ""
    elif isinstance(error, TooLargeError):
        fault = Fault.TOO_LARGE
    elif isinstance(error, OSError):
        fault = Fault.UNREACHABLE if phase is Phase.CONNECT else Fault.CLOSED
    elif isinstance(error, aiosmtplib.SMTPException):
        fault = Fault.UNSUPPORTED
    return SmtpError(phase, fault, text=text)

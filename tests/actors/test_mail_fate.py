"""What becomes of a mail that was not taken, by the server's answer."""

from collections.abc import Callable

import aiosmtplib
import pytest
from aiosmtplib import SMTPRecipientRefused, SMTPRecipientsRefused

from callboard.actors.mail import Fate, fate


def refusal(*codes: int) -> Exception:
    return SMTPRecipientsRefused([SMTPRecipientRefused(code, "no", "a@example.org") for code in codes])


FATES: list[tuple[Callable[[], Exception], int, float, Fate]] = [
    (lambda: refusal(450), 0, 0, Fate(1, 2.0)),
    (lambda: refusal(450), 1, 0, Fate(2, 4.0)),
    (lambda: refusal(450), 2, 0, Fate(3, None)),
    (lambda: refusal(550), 0, 0, Fate(1, None)),
    (lambda: refusal(501), 0, 0, Fate(1, None)),
    (lambda: refusal(421), 2, 10, Fate(2, 5.0)),
    (lambda: aiosmtplib.SMTPDataError(451, "x"), 0, 0, Fate(1, 2.0)),
    (lambda: aiosmtplib.SMTPDataError(554, "x"), 0, 0, Fate(1, None)),
    (lambda: aiosmtplib.SMTPDataError(500, "x"), 1, 0, Fate(2, None)),
    (lambda: aiosmtplib.SMTPSenderRefused(421, "x", "s"), 2, 0, Fate(2, 1.0)),
    (lambda: aiosmtplib.SMTPAuthenticationError(535, "x"), 0, 0, Fate(0, 1.0)),
    (lambda: aiosmtplib.SMTPConnectResponseError(554, "x"), 0, 0, Fate(0, 1.0)),
    (lambda: aiosmtplib.SMTPHeloError(550, "x"), 0, 0, Fate(0, 1.0)),
    (lambda: aiosmtplib.SMTPServerDisconnected("x"), 2, 0, Fate(2, 1.0)),
    (lambda: aiosmtplib.SMTPReadTimeoutError("x"), 0, 30, Fate(0, 15.0)),
    (ConnectionRefusedError, 0, 3600, Fate(0, 60.0)),
    (lambda: ValueError("header"), 0, 0, Fate(1, None)),
]


@pytest.mark.parametrize(("error", "attempts", "age_s", "expected"), FATES)
def test_the_fate_of_a_refused_mail(
    error: Callable[[], Exception], attempts: int, age_s: float, expected: Fate
) -> None:
    assert fate(error(), attempts, age_s) == expected

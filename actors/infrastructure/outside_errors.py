"""Failures of a service that is not ours."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


class OutsideError(Exception):
    """The service has no answer for this request."""


class QueueFullError(OutsideError):
    """As many requests as may wait for their turn."""


class AnswerTooLargeError(OutsideError):
    """The answer is larger than the settings allow."""


class RateLimitedError(OutsideError):
    """The service takes no more requests for so many seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"limited for {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class ServiceFailedError(OutsideError):
    """The service has failed; it may say when to try again."""

    def __init__(self, why: str, retry_after_s: float | None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


def parse_retry_after(text: str) -> float | None:
    """Return the seconds of a Retry-After, a number or a date; None without one that can be read."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:  # noqa: PLR2004 - 31 years
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

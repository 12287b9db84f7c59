"""The decision about a mail that a server did not accept, from the phase and the reply: one table, no side effects.

RFC 5321, 4.2.1: a 4yz reply is temporary, a 5yz reply permanent. An unreachable server says nothing about the mail, so
the mail waits and its attempts are not counted; a mail that is deferred (greylisting, rate limit) waits likewise. If
there is a second server, it gets the mails that the first could not take; never one whose outcome is unknown.
"""

import re
from enum import StrEnum

import msgspec

from callboard.actors.delivery.smtp_client import SERVICE_CLOSING, SESSION
from callboard.actors.delivery.smtp_errors import Fault, Phase, SmtpError
from callboard.actors.infrastructure.job_kinds import JITTER

MAX_ATTEMPTS = 3
BASE_S = 2.0
UNKNOWN_BASE_S = 60.0
DELAYED_MIN_S, DELAYED_MAX_S = 60.0, 600.0
AWAY_MIN_S, AWAY_MAX_S = 1.0, 60.0
LAST_CHANCE_S = 5.0  # a waiting mail gets one more attempt at least this long before its deadline


class Reason(StrEnum):
    """The classes of failure; metrics and logs name them so."""

    AWAY = "away"  # the server is unreachable or closes the connection: this says nothing about the mail
    MISCONFIGURED = "misconfigured"  # it refuses us, not the mail: our settings or its own must change
    DELAYED = "delayed"  # greylisting or a rate limit
    FAILED = "failed"  # the server failed on this mail; it may succeed later
    UNKNOWN = "unknown"  # the whole mail was sent, and no reply says yes or no
    REFUSED = "refused"  # the server will never take this mail
    INVALID = "invalid"  # the mail cannot be written, or this server cannot take it


class Rule(msgspec.Struct, frozen=True):
    """The failures that a reason stands for. `codes` matches the reply's code and enhanced code (`450 4.7.1`)."""

    reason: Reason
    phases: frozenset[Phase]
    faults: frozenset[Fault]
    codes: str = ""

    def matches(self, error: SmtpError) -> bool:
        """Whether the rule matches this failure."""
        said = f"{error.code} {error.text}"
        return (
            error.phase in self.phases
            and error.fault in self.faults
            and re.match(self.codes, said, re.ASCII) is not None
        )


ANY = frozenset(Phase)
ADDRESSED = frozenset({Phase.RCPT, Phase.DATA, Phase.FINAL})
SILENT = frozenset({Fault.TIMEOUT, Fault.CLOSED, Fault.GARBLED, Fault.UNREACHABLE})
REPLY = frozenset({Fault.REPLY})

# The first rule that matches decides.
RULES: tuple[Rule, ...] = (
    Rule(Reason.INVALID, ANY, frozenset({Fault.INVALID, Fault.TOO_LARGE})),
    Rule(Reason.MISCONFIGURED, ANY, frozenset({Fault.TLS, Fault.UNSUPPORTED})),
    Rule(Reason.UNKNOWN, frozenset({Phase.FINAL}), SILENT),
    Rule(Reason.UNKNOWN, frozenset({Phase.FINAL}), REPLY, r"[^45]"),  # a reply that is neither yes nor no
    Rule(Reason.AWAY, SESSION, SILENT),
    Rule(Reason.FAILED, ANY, SILENT),
    Rule(Reason.AWAY, ANY, REPLY, rf"{SERVICE_CLOSING}"),
    Rule(Reason.AWAY, SESSION, REPLY, r"4"),
    Rule(Reason.MISCONFIGURED, SESSION, REPLY),
    # "Authentication required", "encryption required": a reply to any command of a client that has not done it.
    Rule(Reason.MISCONFIGURED, ANY, REPLY, r"(530|534|535|538)\b"),
    Rule(Reason.DELAYED, ANY, REPLY, r"(4\d\d 4\.[37]\.|452\b)"),
    Rule(Reason.DELAYED, ADDRESSED, REPLY, r"4"),
    Rule(Reason.FAILED, ANY, REPLY, r"[1-4]"),
    Rule(Reason.REFUSED, ANY, REPLY),
)


def reason_of(error: SmtpError) -> Reason:
    """Return the class of a failure."""
    return next(rule.reason for rule in RULES if rule.matches(error))


WAITING = frozenset({Reason.AWAY, Reason.MISCONFIGURED})
FOR_EVER = frozenset({Reason.REFUSED, Reason.INVALID})


def passes_on(reason: Reason, error: SmtpError) -> bool:
    """Whether the next server gets this mail at once: this one could not take it, and has not got the whole of it."""
    return reason in (*WAITING, Reason.FAILED) and error.phase is not Phase.FINAL


def opens_breaker(reason: Reason, error: SmtpError) -> bool:
    """Whether the failure says that the server can take no mail at all: it is unusable, or so slow that it seems so."""
    return reason in WAITING or error.fault is Fault.TIMEOUT


class RetryDecision(msgspec.Struct, frozen=True):
    """The decision: try again in `delay_s` seconds, or never (None), and whether the attempt counts."""

    delay_s: float | None
    counts: bool


def decide(reason: Reason, *, attempts: int, age_s: float, left_s: float) -> RetryDecision:
    """Decide when a mail is tried again. `attempts` includes this one; `left_s` is the time until its deadline.

    - Refused or invalid: never.
    - Failed: after 2, then 4 s; the third attempt is the last.
    - Unknown outcome: after 60, then 120 s; the third attempt is the last. A server that accepts a mail without a reply
      gets three copies at most, with one Message-ID.
    - Delayed: after the mail's age, between 1 and 10 minutes, and once just before the deadline; no attempt is counted.
    - Unreachable or misconfigured: after half the mail's age, between 1 and 60 s; no attempt is counted.
    """
    if reason in FOR_EVER:
        return RetryDecision(None, counts=True)
    if reason is Reason.DELAYED:
        planned = min(DELAYED_MAX_S, max(DELAYED_MIN_S, age_s))
        last = left_s / (1 + JITTER) - LAST_CHANCE_S
        return RetryDecision(last if planned > last > LAST_CHANCE_S else planned, counts=False)
    if reason in WAITING:
        return RetryDecision(min(AWAY_MAX_S, max(AWAY_MIN_S, age_s / 2)), counts=False)
    if attempts >= MAX_ATTEMPTS:
        return RetryDecision(None, counts=True)
    if reason is Reason.UNKNOWN:
        return RetryDecision(unknown_wait_s(attempts), counts=True)
    return RetryDecision(BASE_S**attempts, counts=True)


def unknown_wait_s(copies: int) -> float:
    """Return the wait after the last unconfirmed copy, by the number of copies: 60, then 120 s."""
    return UNKNOWN_BASE_S * 2.0 ** (copies - 1)
